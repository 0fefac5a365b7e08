"""Puts the protocol's texts into a wheel, so that the package carries what the engine speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtocolTexts(BuildHookInterface):  # type: ignore[type-arg]
    """From the protocol's folder in a checkout. A source archive has them in place already."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Adds the folders of texts, unless the install is editable and reads them where they are."""
        protocol = Path(self.root).parent / "protocol"
        if version == "editable" or not protocol.is_dir():
            return
        for system in ("redis", "sqlite"):
            build_data["force_include"][str(protocol / system)] = f"qscaler/texts/{system}"

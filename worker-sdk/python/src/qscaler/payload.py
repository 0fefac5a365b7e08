"""From the bytes of a task to what the user's function gets."""

from __future__ import annotations

import json
import pickle
from typing import Any, Callable

from qscaler.errors import SettingsError

#: Reads the bytes of a payload; raises `Unreadable`.
Reader = Callable[[bytes], Any]


class Unreadable(Exception):
    """These bytes are not what the worker expects: trying again cannot help."""


def reader(payload: str, allow_pickle: bool) -> Reader:
    """Reads payloads of one kind: `json`, `msgpack` or `bytes`, and pickles where that is allowed."""
    if payload == "bytes":
        return bytes
    read = _read_msgpack() if payload == "msgpack" else _read_json

    def read_or_explain(data: bytes) -> Any:
        if allow_pickle and _is_pickle(data):
            return _unpickle(data)
        try:
            return read(data)
        except (ValueError, RecursionError) as error:
            if _is_pickle(data):
                raise Unreadable(
                    "this is a Python pickle, and reading one runs whatever code its writer put there: let "
                    "the producer send JSON, or set QSCALER_ALLOW_PICKLE=1 if everybody who can write to "
                    "this queue is trusted"
                ) from None
            raise Unreadable(f"this is not {payload}: {error}") from None

    return read_or_explain


def _read_json(data: bytes) -> Any:
    return json.loads(data)


def _read_msgpack() -> Reader:
    try:
        import msgpack
    except ImportError:
        raise SettingsError("payload msgpack needs its package: pip install 'qscaler[msgpack]'") from None

    def read(data: bytes) -> Any:
        try:
            return msgpack.unpackb(data)
        except msgpack.UnpackException as error:
            raise ValueError(str(error) or type(error).__name__) from None

    return read


def _unpickle(data: bytes) -> Any:
    try:
        return pickle.loads(data)
    except Exception as error:
        raise Unreadable(f"this is a broken pickle: {type(error).__name__}: {error}") from None


def _is_pickle(data: bytes) -> bool:
    """All end with a dot. Protocols 2 to 5 begin with their number, 0 and 1 with the code of a value."""
    if not data.endswith(b"."):
        return False
    numbered = data[:1] == pickle.PROTO and data[1] <= pickle.HIGHEST_PROTOCOL
    return numbered or data[:1] in b"(c]})NIJKLMFGSTUVX"

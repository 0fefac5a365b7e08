"""As much of a client of the API server as starting a cluster needs."""

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

MERGE = "application/merge-patch+json"


class Api:
    """The API server, asked as one user."""

    def __init__(self, server: str, authority: Path, token: str) -> None:
        self.server = server
        self.headers = {"Authorization": f"Bearer {token}", "User-Agent": "testcluster"}
        self.context = ssl.create_default_context(cafile=str(authority))

    def call(self, method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
        """The answer, or nothing when the server is not there or refuses."""
        data = None if body is None else json.dumps(body).encode()
        headers = self.headers | {"Content-Type": kind}
        request = urllib.request.Request(self.server + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10, context=self.context) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None
        return json.loads(text) if text.startswith("{") else text

    def condition(self, path: str, kind: str) -> bool:
        """Whether an object's condition of this type is true."""
        found = (self.call("GET", path) or {}).get("status", {}).get("conditions", [])
        return any(it["type"] == kind and it["status"] == "True" for it in found)

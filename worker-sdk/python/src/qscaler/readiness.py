"""Says to whoever starts workers whether this one takes tasks: by a file, by HTTP, or both."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from qscaler.errors import SettingsError


class Readiness:
    """A file that exists, or `GET /readyz` that answers 200, while the worker takes tasks."""

    def __init__(self, file: str, port: int) -> None:
        self._file = Path(file) if file else None
        self._port = port
        self._is_ready = False
        self._server: ThreadingHTTPServer | None = None

    def open(self) -> None:
        """Begins, not ready. A file that another start left behind goes away."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
        if self._port:
            self._server = _serve(self._port, lambda: self._is_ready)

    def set(self, is_ready: bool) -> None:
        """Says so from now on."""
        if is_ready == self._is_ready:
            return
        self._is_ready = is_ready
        if self._file is not None and is_ready:
            self._file.touch()
        elif self._file is not None:
            self._file.unlink(missing_ok=True)

    def close(self) -> None:
        """Not ready any more; the port is free again."""
        self.set(False)
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def _serve(port: int, is_ready: object) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert callable(is_ready), "it is asked at each request"
            found = self.path == "/readyz"
            self.send_response(404 if not found else 200 if is_ready() else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it so)
            """Probes are not worth a line."""

    try:
        server = ThreadingHTTPServer(("", port), Handler)
    except OSError as error:
        raise SettingsError(f"QSCALER_PROBE_PORT {port}: {error}: type another port") from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.1,), name="qscaler-readyz", daemon=True).start()
    return server

"""Somebody else's server: it notes each call when it begins and when it ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]


@dataclass
class Call:
    """One request; the times are ``time.monotonic()`` seconds."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    began: float
    ended: float | None = None


class Partner:
    """Answers each POST with what ``answer(call)`` returns; it may take its time."""

    def __init__(self, answer: Callable[[Call], Answer]) -> None:
        self._calls: list[Call] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler(answer))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def calls(self, path: str | None = None) -> list[Call]:
        """Those that have begun, in order; of one path only, if it is given."""
        with self._lock:
            return [call for call in self._calls if path in (None, call.path)]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self, answer: Callable[[Call], Answer]) -> type[BaseHTTPRequestHandler]:
        partner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                call = Call(self.path, json.loads(sent), dict(self.headers), time.monotonic())
                with partner._lock:
                    partner._calls.append(call)
                code, values = answer(call)
                call.ended = time.monotonic()
                body = json.dumps(values).encode()
                try:
                    self.send_response(code)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # who asked did not wait

            def log_message(self, *arguments: object) -> None:
                """Nothing: the tests look at the calls."""

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

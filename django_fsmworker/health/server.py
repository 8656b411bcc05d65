"""A small HTTP server for pages on health, with no thread of its own.

It can be waited for like a socket: a supervisor, which has no threads, serves it in its loop, and a
runner on a thread that does nothing else. It answers GET and HEAD of a few addresses, and keeps no
connection open, nor anybody waiting who is slow.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.logs import logger_for

logger = logger_for(__name__)

MOST_CONNECTIONS = 32
LONGEST_REQUEST = 8192
END_OF_REQUEST = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request for one page."""

    status: HTTPStatus
    text: str
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[], Answer]


@dataclass(slots=True)
class Connection:
    """A client, what it has said so far, and what it has not been told yet."""

    socket: socket.socket
    request: bytearray = field(default_factory=bytearray)
    response: bytes = b""


class HealthServer:
    """Serves ``pages``, a callable for each address, on a port of this host.

    ``ConfigurationError`` if the port cannot be had; 0 is any that is free.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        self._pages = pages
        self._connections: dict[int, Connection] = {}
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._listening = socket.create_server(address[:2], family=family)
        except OSError as error:
            raise ConfigurationError(
                f"The pages on health cannot be served on port {port} of {host} ({error}); give "
                f"another --health-port or --health-host."
            ) from error
        self._listening.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)

    @property
    def port(self) -> int:
        """The number of the port."""
        port: int = self._listening.getsockname()[1]
        return port

    @property
    def address(self) -> str:
        """Where the pages are, as the beginning of their addresses."""
        host = self._listening.getsockname()[0]
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def fileno(self) -> int:
        """A descriptor that can be read when there is something to serve."""
        number: int = self._selector.fileno()
        return number

    def serve(self, timeout: float | None = 0) -> None:
        """Serve what there is to serve, after at most ``timeout`` seconds (None: however long)."""
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._accept()
            else:
                self._go_on(key.data)

    def close(self) -> None:
        """Close the port and all connections."""
        for connection in tuple(self._connections.values()):
            self._hang_up(connection)
        self._selector.close()
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            accepted, _ = self._listening.accept()
            accepted.setblocking(False)
            connection = Connection(accepted)
            self._connections[accepted.fileno()] = connection
            self._selector.register(accepted, selectors.EVENT_READ, connection)
            if len(self._connections) > MOST_CONNECTIONS:
                self._hang_up(next(iter(self._connections.values())))

    def _go_on(self, connection: Connection) -> None:
        try:
            if connection.response:
                self._write(connection)
            else:
                self._read(connection)
        except BlockingIOError:
            return
        except OSError:
            self._hang_up(connection)

    def _read(self, connection: Connection) -> None:
        said = connection.socket.recv(LONGEST_REQUEST)
        connection.request += said
        if END_OF_REQUEST in connection.request:
            connection.response = self._respond(bytes(connection.request))
            self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
            self._write(connection)
        elif not said or len(connection.request) > LONGEST_REQUEST:
            self._hang_up(connection)

    def _write(self, connection: Connection) -> None:
        sent = connection.socket.send(connection.response)
        connection.response = connection.response[sent:]
        if not connection.response:
            self._hang_up(connection)

    def _hang_up(self, connection: Connection) -> None:
        self._connections.pop(connection.socket.fileno(), None)
        with suppress(KeyError, ValueError):
            self._selector.unregister(connection.socket)
        connection.socket.close()

    def _respond(self, request: bytes) -> bytes:
        """The whole response to a request, of which only the first line matters."""
        method, _, rest = request.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        answer = self._answer(method, rest.partition(" ")[0].partition("?")[0])
        body = answer.text.encode()
        head = (
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
            f"Content-Type: {answer.content_type}\r\nContent-Length: {len(body)}\r\n"
            f"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else body)

    def _answer(self, method: str, path: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD.\n")
        page = self._pages.get(path)
        if page is None:
            known = ", ".join(sorted(self._pages))
            return Answer(HTTPStatus.NOT_FOUND, f"There is no such page; there are {known}.\n")
        try:
            return page()
        except Exception:
            logger.exception("The page %s failed.", path, extra={"action": "page_failed"})
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "The page failed; see the log.\n")


class HealthThread(threading.Thread):
    """A thread that serves pages on health until the process ends, or ``stop()``."""

    def __init__(self, server: HealthServer) -> None:
        super().__init__(name="fsmworker-health", daemon=True)
        self._server = server
        self._woken, self._wake = socket.socketpair()
        self._stopped = False

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopped:
                selector.select()
                self._server.serve()

    def stop(self) -> None:
        """End the thread, and close the port."""
        self._stopped = True
        self._wake.send(b"!")
        if self.is_alive():
            self.join(5)
        self._server.close()
        self._woken.close()
        self._wake.close()

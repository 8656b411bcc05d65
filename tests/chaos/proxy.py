"""A TCP proxy before a database that delays, stalls, cuts, loses a request or a reply, moves on."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.chaos.wire_protocol import Wire

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection

Address = tuple[str, int]


@dataclass
class Trap:
    """Cuts the connection at the next query that holds ``words``, of one client or of any.

    With ``reply`` the server gets the query and does what it says, and its answer is lost.
    """

    words: bytes
    reply: bool
    client: int | None = None
    sprung: threading.Event = field(default_factory=threading.Event)

    def catches(self, session: Session, query: bytes) -> bool:
        mine = self.client in (None, session.client_port)
        if not mine or self.words not in query or self.sprung.is_set():
            return False
        self.sprung.set()
        return True


class Proxy:
    """Listens on a port of its own while the ``with`` block runs.

    A ``wire`` of each connection's own understands what is said on it.
    """

    def __init__(self, target: Address, wire: Callable[[], Wire]) -> None:
        self.target = target
        self.wire = wire
        self.delay = 0.0
        self.traps: list[Trap] = []
        self.flowing = threading.Event()
        self.flowing.set()
        self._refusing = False
        self._sessions: list[Session] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Proxy:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        self.flowing.set()
        self.cut()

    def cut(self) -> int:
        """Reset every connection; how many there were."""
        with self._lock:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.cut()
        return len(sessions)

    def move_to(self, target: Address) -> None:
        """From now on it is another server; nobody tells the clients."""
        self.target = target
        self.cut()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Cut everybody and let nobody in."""
        with self._lock:
            self._refusing = True
        self.cut()
        try:
            yield
        finally:
            self._refusing = False

    @contextmanager
    def swallowing(self) -> Iterator[None]:
        """Take what is sent and pass nothing on: never again on the connections that there are.

        Those who come meanwhile find somebody who says nothing, and are served in the end.
        """
        with self._lock:
            silenced = list(self._sessions)
        for session in silenced:
            session.silent = True
        self.flowing.clear()
        try:
            yield
        finally:
            for session in silenced:
                session.leave_server()
            self.flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                client, address = self._listener.accept()
            except OSError:
                return
            with self._lock:  # who comes while everybody is cut is cut, or refused
                if self._refusing:
                    client.close()
                    continue
                self._sessions = [each for each in self._sessions if not each.over]
                self._sessions.append(Session(self, client, address[1]))


class Session:
    """One client and its connection to the server: a thread for each direction."""

    def __init__(self, proxy: Proxy, client: socket.socket, client_port: int) -> None:
        self._proxy = proxy
        self._client = client
        self._wire = proxy.wire()
        self.client_port = client_port
        self._server: socket.socket | None = None
        self._losing = threading.Event()
        self.silent = False
        self.over = False
        threading.Thread(target=self._run, name="proxy-session", daemon=True).start()

    def cut(self) -> None:
        self.over = True
        for each in (self._client, self._server):
            if each is not None:
                with suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    each.shutdown(socket.SHUT_RDWR)

    def leave_server(self) -> None:
        """The server sees the connection end; the client sees nothing."""
        with suppress(OSError):
            if self._server is not None:
                self._server.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            self._proxy.flowing.wait()
            self._server = socket.create_connection(self._proxy.target, 10)
            self._server.settimeout(None)
        except OSError:
            self._client.close()
            self.over = True
            return
        back = threading.Thread(target=self._pass_replies, name="proxy-replies", daemon=True)
        back.start()
        self._pass_queries(self._server)
        self.cut()
        back.join()
        self._client.close()
        self._server.close()

    def _pass_queries(self, server: socket.socket) -> None:
        with suppress(OSError):
            while data := self._client.recv(65536):
                self._wait()
                for trap in self._caught(self._wire.queries(data)):
                    if not trap.reply:
                        return
                    self._losing.set()
                server.sendall(data)

    def _wait(self) -> None:
        """Until what has come may be passed on."""
        while self.silent or not self._proxy.flowing.wait(0.1):
            if self.over:
                raise ConnectionAbortedError
            time.sleep(0.05)
        if self._proxy.delay:
            time.sleep(self._proxy.delay)

    def _caught(self, queries: Iterator[bytes]) -> Iterator[Trap]:
        for query in queries:
            yield from (trap for trap in self._proxy.traps if trap.catches(self, query))

    def _pass_replies(self) -> None:
        assert self._server is not None
        with suppress(OSError):
            while data := self._server.recv(65536):
                self._wait()
                answered = self._wire.answered(data)
                if not self._losing.is_set():
                    self._client.sendall(data)
                elif answered:
                    break  # it is done, and nobody will hear of it
        if not self.silent:
            self.cut()

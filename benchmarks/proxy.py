"""
``python -m benchmarks.proxy HOST PORT SECONDS``: a TCP proxy that delays what passes.

It prints the port on which it listens. Every piece of data is handed on so many seconds after it
came, in each direction: two of them are the round trip it adds, whatever the amount.
"""

from __future__ import annotations

import asyncio
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from tests.paths import ROOT


class Direction(asyncio.Protocol):
    """One side of a connection: hands what it receives to the other side, later."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self.transport: asyncio.Transport | None = None
        self.other: Direction | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._later(lambda transport: transport.write(data))

    def connection_lost(self, error: Exception | None) -> None:
        self._later(lambda transport: transport.close())

    def _later(self, pass_on: object) -> None:
        # Timers that are due at different moments run in that order, and no two are set at one.
        asyncio.get_running_loop().call_later(self._delay, self._pass, pass_on)

    def _pass(self, pass_on: object) -> None:
        if self.other is not None and self.other.transport is not None:
            pass_on(self.other.transport)  # type: ignore[operator]


class Accepted(Direction):
    """The client's side; data that comes before the server's side is there waits for it."""

    def __init__(self, host: str, port: int, delay: float) -> None:
        super().__init__(delay)
        self._address = host, port
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        try:
            _, other = await loop.create_connection(lambda: Direction(self._delay), *self._address)
        except OSError:
            self.transport.close()
            return
        self.other, other.other = other, self
        self.transport.resume_reading()


async def serve(host: str, port: int, delay: float) -> None:
    """Listen on a free port, print it, and pass data on until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Accepted(host, port, delay), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def delayed(url: str, delay: float) -> Iterator[str]:
    """A URL of the same database, behind a proxy in a process of its own."""
    parts = urlsplit(url)
    command = [sys.executable, "-m", "benchmarks.proxy", str(parts.hostname), str(parts.port)]
    with subprocess.Popen([*command, str(delay)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            account = f"{parts.username}:{parts.password}"
            yield urlunsplit(parts._replace(netloc=f"{account}@127.0.0.1:{port}"))
        finally:
            process.terminate()


def main(host: str, port: str, delay: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # select() waits in microseconds; the usual selector rounds a wait up to a millisecond.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    loop.run_until_complete(serve(host, int(port), float(delay)))


if __name__ == "__main__":
    main(*sys.argv[1:])

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from benchmarks.proxy import delayed

ONE_WAY = 0.05


@pytest.fixture
def echo() -> Iterator[str]:
    """The URL of a server that answers with what it got."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(65536):
                    connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"postgres://user:secret@127.0.0.1:{server.getsockname()[1]}/name"
        thread.join(10)


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10)


def test_a_round_trip_takes_twice_the_delay(echo: str) -> None:
    with delayed(echo, ONE_WAY) as url, connect(url) as client:
        began = time.monotonic()
        client.sendall(b"ping")
        answer = client.recv(4)
        elapsed = time.monotonic() - began

    assert answer == b"ping"
    assert elapsed >= 2 * ONE_WAY


def test_what_passes_stays_whole_and_in_its_order(echo: str) -> None:
    sent = b"".join(b"%07d\n" % number for number in range(100_000))
    received = bytearray()

    with delayed(echo, 0.001) as url, connect(url) as client:
        sender = threading.Thread(target=client.sendall, args=(sent,))
        sender.start()
        while len(received) < len(sent):
            received += client.recv(65536)
        sender.join()

    assert received == sent


def test_the_rest_of_the_url_is_kept(echo: str) -> None:
    with delayed(echo, 0) as url, connect(url) as client:
        client.sendall(b"ping")
        client.recv(4)
        parts = urlsplit(url)

    assert (parts.scheme, parts.username, parts.password, parts.path) == (
        "postgres",
        "user",
        "secret",
        "/name",
    )
    assert parts.port != urlsplit(echo).port

"""The small server of the pages on health: what it answers, and whom it does not wait for."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.health.server import (
    LONGEST_REQUEST,
    MOST_CONNECTIONS,
    Answer,
    HealthServer,
    HealthThread,
)


def broken() -> Answer:
    raise ValueError("no such thing")


@pytest.fixture
def server() -> Iterator[HealthServer]:
    pages = {
        "/livez": lambda: Answer(HTTPStatus.OK, "ok\n"),
        "/readyz": lambda: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "It is stopping.\n"),
        "/broken": broken,
        "/long": lambda: Answer(HTTPStatus.OK, "x" * 5_000_000),
    }
    server = HealthServer("127.0.0.1", 0, pages)
    thread = HealthThread(server)
    thread.start()
    yield server
    thread.stop()


def get(server: HealthServer, path: str, method: str = "GET") -> tuple[int, str]:
    asked = urllib.request.Request(server.address + path, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def connect(server: HealthServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


class TestAnswers:
    def test_are_those_of_the_pages(self, server: HealthServer) -> None:
        assert get(server, "/livez") == (200, "ok\n")
        assert get(server, "/livez?verbose") == (200, "ok\n")
        assert get(server, "/readyz") == (503, "It is stopping.\n")

    def test_to_head_have_no_body(self, server: HealthServer) -> None:
        assert get(server, "/livez", "HEAD") == (200, "")

    def test_to_other_methods_and_addresses_say_what_there_is(self, server: HealthServer) -> None:
        assert get(server, "/livez", "POST") == (405, "Only GET and HEAD.\n")
        assert get(server, "/") == (
            404,
            "There is no such page; there are /broken, /livez, /long, /readyz.\n",
        )

    def test_of_a_page_that_fails_are_500(self, server: HealthServer) -> None:
        assert get(server, "/broken") == (500, "The page failed; see the log.\n")
        assert get(server, "/livez") == (200, "ok\n")

    def test_may_be_longer_than_a_socket_takes_at_once(self, server: HealthServer) -> None:
        status, text = get(server, "/long")

        assert (status, len(text)) == (200, 5_000_000)


class TestClients:
    def test_that_are_slow_are_not_waited_for(self, server: HealthServer) -> None:
        with connect(server) as slow:
            slow.send(b"GET /livez HT")

            assert get(server, "/livez") == (200, "ok\n")

            slow.send(b"TP/1.1\r\n\r\n")
            assert slow.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")

    def test_that_say_too_much_are_hung_up_on(self, server: HealthServer) -> None:
        with connect(server) as wordy:
            wordy.sendall(b"x" * (LONGEST_REQUEST + 1))
            assert hung_up(wordy)

    def test_that_never_speak_make_room_for_others(self, server: HealthServer) -> None:
        silent = [connect(server) for _ in range(MOST_CONNECTIONS)]

        assert get(server, "/livez") == (200, "ok\n")

        assert silent[0].recv(1) == b""
        for each in silent:
            each.close()


def hung_up(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:  # there was more that nobody has read
        return True


def test_a_port_that_is_taken_is_a_matter_of_configuration(server: HealthServer) -> None:
    with pytest.raises(ConfigurationError) as refused:
        HealthServer("127.0.0.1", server.port, {})

    assert str(refused.value).startswith(
        f"The pages on health cannot be served on port {server.port} of 127.0.0.1 ("
    )
    assert str(refused.value).endswith("); give another --health-port or --health-host.")


def test_an_address_of_version_6_has_brackets() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    server = HealthServer("::1", 0, {})

    assert server.address == f"http://[::1]:{server.port}"
    server.close()

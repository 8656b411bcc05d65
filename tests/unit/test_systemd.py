"""What a service manager is told, on a socket as systemd's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_fsmworker.runner.processes.systemd import VARIABLE, ServiceManager


@pytest.fixture
def listening(short_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(short_path / "notify"))
        listening.settimeout(5)
        yield listening


def heard(listening: socket.socket, number: int) -> list[str]:
    return [listening.recv(100).decode() for _ in range(number)]


def test_it_is_told_once_that_the_service_is_ready(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, listening.getsockname())
    manager = ServiceManager()

    manager.alive()
    manager.alive()
    manager.stopping()

    assert manager.listens
    assert heard(listening, 4) == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]
    assert VARIABLE not in os.environ, "children are no services"


def test_an_abstract_address_begins_with_an_at() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0fsmworker-test-notify")
        listening.settimeout(5)

        ServiceManager("@fsmworker-test-notify").ready()

        assert heard(listening, 1) == ["READY=1"]


def test_without_one_and_with_one_that_is_gone_nothing_happens() -> None:
    assert not ServiceManager("").listens
    ServiceManager("").alive()
    ServiceManager("/nowhere/notify").alive()

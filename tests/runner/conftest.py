from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections

from django_fsmworker import clock
from tests.app.models import trouble
from tests.runner.embedded import Embedded
from tests.runner.held_check import HeldCheck
from tests.runner.locking import Locker
from tests.runner.processes import Process
from tests.runner.server import SERVERS


@pytest.fixture
def start_runner(start_thread: Callable[..., Any]) -> Iterator[Callable[..., Embedded]]:
    """``start_runner(Model, …, option=…)``: a runner on a thread, stopped when the test ends."""
    started: list[Embedded] = []

    def start(*models: Any, **options: Any) -> Embedded:
        embedded = Embedded(start_thread, models, options)
        started.append(embedded)
        return embedded

    yield start
    for embedded in started:
        embedded.stop(timeout=0.5)


@pytest.fixture
def locked(start_thread: Callable[..., Any]) -> Callable[[Any], Locker]:
    """``with locked(row):`` another connection holds the row (SQLite: the file) locked."""
    return lambda row: Locker(start_thread, row)


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[Any], Any]], None]:
    """``mode(name, check)``: rows of Trouble with this mode run ``check(row)``."""

    def define(name: str, check: Callable[[Any], Any]) -> None:
        monkeypatch.setitem(trouble.MODES, name, lambda states, row: check(row))

    return define


@pytest.fixture
def held_check(mode: Callable[..., None]) -> Iterator[HeldCheck]:
    """The check of rows of Trouble with the mode ``held``; it is released when the test ends."""
    held_check = HeldCheck()
    mode("held", held_check)
    yield held_check
    held_check.released.set()


@pytest.fixture
def travel() -> Iterator[Callable[[float], None]]:
    """``travel(seconds)``: move every clock of this process, the database's included."""
    before = clock.travelled()
    yield lambda seconds: clock.travel(timedelta(seconds=seconds))
    clock.travel(before - clock.travelled())


@pytest.fixture
def start_process(database_env: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """``start_process("runstator", …, NAME=value)``: ``manage.py`` in a process of its own."""
    started: list[Process] = []

    def start(*arguments: str, **environment: str) -> Process:
        process = Process(arguments, {**database_env, **environment})
        started.append(process)
        return process

    yield start
    for process in started:
        process.end()


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every connection that this process asks for in vain from now on: what it was told."""
    told: list[str] = []
    backend: Any = type(connections["default"])
    connect = backend.get_new_connection

    def note_refusals(self: Any, parameters: dict[str, Any]) -> Any:
        try:
            return connect(self, parameters)
        except self.Database.Error as error:
            told.append(str(error))
            raise

    monkeypatch.setattr(backend, "get_new_connection", note_refusals)
    return told


@pytest.fixture
def server(vendor: str) -> Iterator[Any]:
    """The database's server: its connections can be ended, and new ones refused."""
    server = SERVERS[vendor]()
    yield server
    server.close()
    connection.close()


@pytest.fixture
def no_spans() -> None:
    """Spans are kept from here on, and those of earlier tests are not."""
    from tests.runner.exported_spans import forget  # few need the SDK

    forget()

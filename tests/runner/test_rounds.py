"""How often the main loop comes round: a loop without work sleeps, whatever the runner is doing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from django.db import connection, connections

from django_fsmworker.pauses import pause
from django_fsmworker.runner import StatorRunner
from tests.app.models import Delivery, Endpoint, Noop, Parcel, Trouble
from tests.runner.embedded import QUICK, Embedded
from tests.runner.rows import states
from tests.runner.server import Server

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]

# Rounds of a second in which nothing happens: looks at the database (none is due sooner than after
# four seconds here), due times of lanes, a probe, and what the start of a runner leaves behind.
MOST_IDLE = 10.0
POLL = {"poll_interval": 5.0}


def rounds_a_second(runner: StatorRunner, eventually: Eventually, seconds: float = 1.0) -> float:
    began, before = time.monotonic(), runner.status().rounds
    eventually(lambda: time.monotonic() - began >= seconds, seconds + 5)
    return (runner.status().rounds - before) / (time.monotonic() - began)


def held(number: int) -> list[Trouble]:
    return Trouble.objects.bulk_create(Trouble(mode="held") for _ in range(number))


class TestASinglePass:
    def test_sleeps_while_its_last_checks_run(
        self,
        start_thread: Callable[..., Any],
        eventually: Eventually,
        held_check: Any,
        mode: Callable[..., None],
    ) -> None:
        """The first row ends at once, and the claim for its slot finds nothing past the mark."""
        runner = StatorRunner([Trouble], **{**QUICK, **POLL})
        quick = Trouble.objects.create(mode="succeed")
        held(7)
        thread = start_thread(runner.run, run_for=0)
        eventually(lambda: len(held_check.begun) == 4 and states([quick]) == ["done"])
        rounds_a_second(runner, eventually)  # a lane that found nothing looks again after a second

        rate = rounds_a_second(runner, eventually)
        held_check.released.set()
        thread.result(30)

        assert rate <= MOST_IDLE
        assert not Trouble.objects.exclude(state="done").exists()


class TestWithoutWork:
    def test_idle(self, start_runner: Start, eventually: Eventually) -> None:
        runner = start_runner(**POLL).runner
        eventually(lambda: runner.hints.active or connection.vendor == "mysql")

        assert rounds_a_second(runner, eventually, 2.0) <= MOST_IDLE

    def test_for_a_limited_time(
        self, start_thread: Callable[..., Any], eventually: Eventually
    ) -> None:
        runner = StatorRunner([Noop], **{**QUICK, **POLL})
        thread = start_thread(runner.run, run_for=3)
        eventually(lambda: runner.status().rounds)

        rate = rounds_a_second(runner, eventually)
        thread.result(30)

        assert rate <= MOST_IDLE

    def test_with_states_that_are_swept(self, start_runner: Start, eventually: Eventually) -> None:
        endpoint = Endpoint.objects.create(paused=True)
        rows = [Delivery.objects.create(endpoint=endpoint, state="held") for _ in range(5)]
        runner = start_runner(Delivery, **POLL).runner
        eventually(lambda: runner.status().rounds)

        assert rounds_a_second(runner, eventually, 2.0) <= MOST_IDLE
        assert states(rows) == ["held"] * 5

    def test_while_every_thread_is_taken_and_more_is_due(
        self, start_runner: Start, eventually: Eventually, held_check: Any
    ) -> None:
        held(50)
        runner = start_runner(Trouble, **POLL).runner
        eventually(lambda: len(held_check.begun) == 4)

        assert rounds_a_second(runner, eventually, 2.0) <= MOST_IDLE

    def test_at_the_limit_of_a_model(
        self, start_runner: Start, eventually: Eventually, held_check: Any
    ) -> None:
        held(50)
        runner = start_runner(Trouble, concurrency_per_model=1, **POLL).runner
        eventually(lambda: held_check.begun)

        assert rounds_a_second(runner, eventually, 2.0) <= MOST_IDLE

    @pytest.mark.parametrize("key", [None, 1])
    def test_while_what_is_due_is_paused(
        self, start_runner: Start, eventually: Eventually, key: int | None
    ) -> None:
        Parcel.objects.bulk_create(Parcel(state="keyed", carrier=1) for _ in range(20))
        if key is None:
            pause(Parcel)
        else:
            pause(Parcel, state="keyed", key=key)
        runner = start_runner(Parcel, **POLL).runner
        eventually(lambda: runner.status().rounds)

        assert rounds_a_second(runner, eventually) <= MOST_IDLE

    @pytest.mark.parametrize("state", ["limited", "keyed"])
    def test_at_a_limit_of_the_fleet(
        self, start_runner: Start, eventually: Eventually, state: str
    ) -> None:
        """That of the state, or of each of several keys, beside another runner that has some."""
        rows = [Parcel(state=state, carrier=n % 3, mode="hang", seconds=8) for n in range(30)]
        Parcel.objects.bulk_create(rows)
        runners = [start_runner(Parcel, **POLL).runner for _ in range(2)]
        eventually(lambda: sum(len(each.status().threads.running) for each in runners) >= 2)
        rounds_a_second(runners[0], eventually)  # what the start leaves behind

        rates = [rounds_a_second(runner, eventually, 0.7) for runner in runners]

        assert max(rates) <= MOST_IDLE


class TestWithWork:
    def test_a_row_that_ends_is_a_few_rounds_at_the_most(
        self, start_runner: Start, eventually: Eventually
    ) -> None:
        Trouble.objects.bulk_create(Trouble(mode="sleep", value=0) for _ in range(500))
        runner = start_runner(Trouble, **POLL).runner
        eventually(lambda: not Trouble.objects.exclude(state="done").exists(), 30)

        assert runner.status().rounds <= 3 * 500

    def test_many_hints(self, start_runner: Start, eventually: Eventually, vendor: str) -> None:
        """A flood is at most a look in 50 ms, each of which is a round for the claim and for what
        it has taken; rows that end are some more, together where there are many.
        """
        runner = start_runner(Noop, **POLL).runner
        eventually(lambda: runner.hints.active or vendor == "mysql")
        began, before, created = time.monotonic(), runner.status().rounds, 0
        while time.monotonic() - began < 2:
            Noop.objects.create()
            created += 1

        rounds = runner.status().rounds - before
        assert rounds <= created / 2 + 100 * (time.monotonic() - began)


class TestWithoutADatabase:
    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_that_is_away(
        self, start_runner: Start, eventually: Eventually, server: Server
    ) -> None:
        runner = start_runner(Noop, **POLL).runner
        Noop.objects.create()
        eventually(lambda: not Noop.objects.exclude(state="done").exists())
        connection.close()

        with server.away():
            runner.parts.claimer.hinted(Noop)
            eventually(lambda: runner.status().databases_away)
            rate = rounds_a_second(runner, eventually, 2.0)
        connection.close()

        assert rate <= MOST_IDLE

    @pytest.mark.sqlite
    def test_that_says_not_now_at_once(
        self, start_runner: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that is locked, and nobody waits for the lock."""
        monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "timeout", 0)
        Noop.objects.bulk_create(Noop() for _ in range(10))
        runner = start_runner(Noop, **POLL).runner
        eventually(lambda: not Noop.objects.exclude(state="done").exists())

        with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=10)) as other:
            other.execute("BEGIN IMMEDIATE")
            runner.parts.claimer.hinted(Noop)
            runner._wake.set()
            rate = rounds_a_second(runner, eventually, 2.0)
            other.rollback()

        assert rate <= 2 * MOST_IDLE

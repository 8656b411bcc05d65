"""Durable events, whatever dies: each is delivered exactly once, in its row's order."""

from __future__ import annotations

import signal
import time
from ast import literal_eval
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db.models import Count
from django.utils import timezone

from django_fsmworker.models import Event, FailureRecord
from django_fsmworker.testing import travel
from tests.app.models import Account, Entry, Purchase
from tests.chaos.event_load import APART, submit, submit_keys
from tests.chaos.test_every_statement import lost_replies
from tests.runner.embedded import Embedded, one_pass
from tests.runner.processes import Process
from tests.threads import DatabaseThread
from tests.waiting import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

StartProcess = Callable[..., Process]

# (events, rows, submitters, runners, kills, events in the hands of a runner)
SHORT, LONG = (200, 20, 2, 2, 2, 20), (20_000, 1000, 4, 4, 20, 4000)


# Calls a function several times side by side; what it returns waits for what they come to.
AtOnce = Callable[..., Callable[[], list[Any]]]


@pytest.fixture
def at_once(
    start_process: StartProcess,
    start_thread: Callable[..., DatabaseThread],
    pytestconfig: pytest.Config,
) -> AtOnce:
    """In threads with a connection each; in the long form in processes, as in life."""

    def call(function: Callable[..., Any], *arguments: dict[str, Any]) -> Callable[[], list[Any]]:
        if not pytestconfig.getoption("--long"):
            threads = [start_thread(function, **each) for each in arguments]
            return lambda: [thread.result(300) for thread in threads]
        name = function.__name__
        code = f"from tests.chaos.event_load import {name} as call; print(repr(call(**%r)))"
        processes = [
            start_process("shell", "--no-imports", "-c", code % each) for each in arguments
        ]
        return lambda: [_answer(process) for process in processes]

    return call


def _answer(process: Process) -> Any:
    assert process.wait(300) == 0, process.stderr
    return literal_eval(process.stdout.strip().splitlines()[-1])


def prove_once_each_in_order(events: int) -> None:
    """Each event has booked once; those of one process and row in the order of submission."""
    booked = list(Entry.objects.order_by("pk").values_list("account", "number"))
    assert len(booked) == len({number for _, number in booked}) == events
    by_source: dict[tuple[int, int], list[int]] = {}
    for row, number in booked:
        by_source.setdefault((row, number // APART), []).append(number)
    assert all(found == sorted(found) for found in by_source.values())
    for account in Account.objects.annotate(number=Count("entries")):
        assert account.balance == 3 * account.number


def has_come_so_far(process: Process, events: int) -> bool:
    return process.started and Entry.objects.count() >= events


@pytest.mark.parametrize(
    "load", [SHORT, pytest.param(LONG, marks=[pytest.mark.long, pytest.mark.postgresql])], ids=str
)
def test_nothing_is_lost_or_done_twice_while_runners_are_killed(
    load: tuple[int, ...],
    start_process: StartProcess,
    at_once: AtOnce,
    capsys: pytest.CaptureFixture[str],
) -> None:
    events, number_of_rows, submitters, runners, kills, in_hand = load
    rows = [row.pk for row in Account.objects.bulk_create(Account() for _ in range(number_of_rows))]

    def start() -> Process:
        return start_process(
            "runstator", "tests.Account", "--lease=3", "--poll-interval=0.2",
            "--concurrency=4", "--connect-timeout=60",
            # What dies in a runner's hands is delivered alone afterwards: that takes the longest.
            FSMWORKER_MAX_IN_FLIGHT=str(in_hand),
        )  # fmt: skip

    fleet, began = [start() for _ in range(runners)], time.monotonic()
    each = events // submitters
    eventually(lambda: fleet[0].started, 60)
    answers = at_once(
        submit, *({"source": at, "count": each, "rows": rows} for at in range(submitters))
    )
    for kill in range(kills):
        at = kill % runners
        eventually(partial(has_come_so_far, fleet[at], events * kill // (kills + 1)), 300)
        fleet[at].end()
        fleet[at] = start()
    answers()
    eventually(lambda: Event.objects.filter(state="delivered").count() == events, 300, every=0.2)

    prove_once_each_in_order(events)
    with capsys.disabled():
        print(f"\n{events} events, {kills} kills: {time.monotonic() - began:.0f} s")


@pytest.mark.longer
@pytest.mark.parametrize("together", [True, False], ids=["bulk", "single"])
def test_two_that_submit_the_same_keys_get_the_same_events(
    at_once: AtOnce, together: bool, pytestconfig: pytest.Config
) -> None:
    row = Account.objects.create()
    count = 1000 if pytestconfig.getoption("--long") else 200
    keys = {"count": count, "row": row.pk}

    one, other = at_once(submit_keys, {**keys, "together": together}, {**keys, "together": True})()

    assert one == other
    assert len(set(one)) == count
    assert Event.objects.count() == count


def test_the_first_answer_from_every_place_is_lost(
    start_runner: Callable[..., Embedded], capsys: pytest.CaptureFixture[str], vendor: str
) -> None:
    # More rows than threads.
    rounds, rows = 4, Account.objects.bulk_create(Account() for _ in range(5))
    with lost_replies() as replies:
        start_runner(Account, concurrency=3, lease=1.0)
        for number in range(rounds):
            for row in rows:
                row.state_submit("book", {"number": number * 100 + row.pk, "amount": 3})
                row.state_submit("freeze")
                row.state_submit("melt")
            time.sleep(0.02)
        submitted = 3 * rounds * len(rows)
        eventually(lambda: Event.objects.filter(state="delivered").count() == submitted, 120)

    functions = " ".join(replies.lost)
    with capsys.disabled():
        print(f"\nlost on {vendor}: {len(replies.lost)} answers")
    for place in ("_deliver", "_lock", "_flush", "_write_ends", "COMMIT", "wake_rows"):
        assert place in functions or place == "wake_rows", sorted(replies.lost)
    assert Entry.objects.count() == rounds * len(rows)
    for row in rows:
        path = [state for state, _ in Account.objects.get(pk=row.pk).state_history]
        assert path == ["open"] + ["frozen", "open"] * rounds
    assert not FailureRecord.objects.filter(resolved=None, count__gt=0, deaths__gt=0).exists()
    assert not Event.objects.exclude(state_failures=0).exists()


def test_killed_before_the_events_are_woken_that_wait_for_a_row(
    start_process: StartProcess,
) -> None:
    row = Purchase.objects.create(amount=1)
    row.state_submit("remark", {"text": "at last"})
    one_pass(Purchase)
    rests = timezone.now() + timedelta(hours=1)
    Event.objects.update(state_next=rests)
    Purchase.objects.update(amount=-1, state_next=timezone.now())

    process = start_process(
        "runstator", "tests.Purchase", "--once", "--lease=1", "--connect-timeout=10",
        DJANGO_SETTINGS_MODULE="tests.chaos.dying_settings",
        TEST_DIE_BEFORE="django_fsmworker_event",
    )  # fmt: skip

    assert process.wait(60) == -signal.SIGKILL
    row.refresh_from_db()
    assert (row.state, Event.objects.get().state_next) == ("open", rests)  # none without the other
    with travel(seconds=60):
        one_pass(Purchase)
        one_pass(Purchase)  # what has become due in the first one
    row.refresh_from_db()
    assert (row.state, Event.objects.get().state) == ("held", "delivered")


@pytest.mark.long
def test_killed_at_every_statement(start_process: StartProcess) -> None:
    died = at = 0
    while died == at:
        at += 1
        row = Account.objects.create()
        row.state_submit("book", {"number": at})
        row.state_submit("freeze")
        process = start_process(
            "runstator", "tests.Account", "--once", "--lease=1", "--connect-timeout=10",
            DJANGO_SETTINGS_MODULE="tests.chaos.dying_settings", TEST_DIE_AT=str(at),
        )  # fmt: skip
        died += process.wait(60) != 0
        with travel(seconds=60):
            one_pass(Account)
        row.refresh_from_db()
        assert [entry.number for entry in row.entries.all()] == [at]
        assert [state for state, _ in row.state_history] == ["open", "frozen"]
        assert row.balance == 1
    assert died > 8

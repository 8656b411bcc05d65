"""Durable events, whatever dies: each is delivered exactly once, in its row's order."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest
from django.db.models import Count

from django_fsmworker.models import Event, FailureRecord
from django_fsmworker.testing import travel
from tests.app.models import Account, Entry
from tests.chaos.event_load import APART
from tests.chaos.test_every_statement import lost_replies
from tests.runner.embedded import Embedded, one_pass
from tests.runner.processes import Process
from tests.waiting import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(600)]

StartProcess = Callable[..., Process]

# (events, rows, submitters, runners, kills)
SHORT, LONG = (400, 40, 2, 2, 3), (20_000, 1000, 4, 4, 20)


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
    load: tuple[int, ...], start_process: StartProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    events, number_of_rows, submitters, runners, kills = load
    rows = [row.pk for row in Account.objects.bulk_create(Account() for _ in range(number_of_rows))]

    def start() -> Process:
        return start_process(
            "runstator", "tests.Account", "--lease=3", "--poll-interval=0.2",
            "--concurrency=4", "--connect-timeout=60",
        )  # fmt: skip

    fleet, began = [start() for _ in range(runners)], time.monotonic()
    each = events // submitters
    sources = [
        start_process(
            "shell", "--no-imports", "-c",
            f"from tests.chaos.event_load import submit; submit({number}, {each}, {rows})",
        )
        for number in range(submitters)
    ]  # fmt: skip
    for kill in range(kills):
        at = kill % runners
        eventually(partial(has_come_so_far, fleet[at], events * kill // (kills + 1)), 300)
        fleet[at].end()
        fleet[at] = start()
    for source in sources:
        assert source.wait(300) == 0, source.stderr
    eventually(lambda: Event.objects.filter(state="delivered").count() == events, 300, every=0.2)

    prove_once_each_in_order(events)
    with capsys.disabled():
        print(f"\n{events} events, {kills} kills: {time.monotonic() - began:.0f} s")


@pytest.mark.parametrize("together", [True, False], ids=["bulk", "single"])
def test_two_that_submit_the_same_keys_get_the_same_events(
    start_process: StartProcess, together: bool, pytestconfig: pytest.Config
) -> None:
    row = Account.objects.create()
    count = 1000 if pytestconfig.getoption("--long") else 200
    call = f"from tests.chaos.event_load import submit_keys as go; go({count}, {row.pk}, together="
    both = [
        start_process("shell", "--no-imports", "-c", f"{call}{each})") for each in (together, True)
    ]
    for each in both:
        assert each.wait(120) == 0, each.stderr

    answers = [each.stdout.strip().splitlines()[-1].split() for each in both]
    assert answers[0] == answers[1]
    assert len(set(answers[0])) == count + 1
    assert Event.objects.count() == count


def test_the_first_answer_from_every_place_is_lost(
    start_runner: Callable[..., Embedded], capsys: pytest.CaptureFixture[str], vendor: str
) -> None:
    rows = Account.objects.bulk_create(Account() for _ in range(12))
    with lost_replies() as replies:
        start_runner(Account, concurrency=3, lease=1.0)
        for number in range(10):
            for row in rows:
                row.state_submit("book", {"number": number * 100 + row.pk, "amount": 3})
                row.state_submit("freeze")
                row.state_submit("melt")
            time.sleep(0.02)
        eventually(lambda: Event.objects.filter(state="delivered").count() == 360, 120)

    functions = " ".join(replies.lost)
    with capsys.disabled():
        print(f"\nlost on {vendor}: {len(replies.lost)} answers")
    for place in ("_deliver", "_lock", "_flush", "_write_ends", "COMMIT", "wake_rows"):
        assert place in functions or place == "wake_rows", sorted(replies.lost)
    assert Entry.objects.count() == 120
    for row in rows:
        path = [state for state, _ in Account.objects.get(pk=row.pk).state_history]
        assert path == ["open"] + ["frozen", "open"] * 10
    assert not FailureRecord.objects.filter(resolved=None, count__gt=0, deaths__gt=0).exists()
    assert not Event.objects.exclude(state_failures=0).exists()


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

"""``manage.py stator status``: how many rows are in each state, and what they wait for."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from django_fsmworker import clock
from django_fsmworker.diagnosis import status
from django_fsmworker.diagnosis.status import Number, StateStatus, status_of
from django_fsmworker.store.failures import Failure, record
from tests.app.models import Noop, Trouble
from tests.command.conftest import Ended
from tests.database.rows import FUTURE, PAST, claim, put

pytestmark = pytest.mark.django_db

Stator = Callable[..., Ended]


def of_state(state: str, model: Any = Trouble) -> StateStatus:
    (found,) = [each for each in status_of(model, "default") if each.state == state]
    return found


@pytest.fixture(params=["counted", "estimated"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a small table, or as of a large one."""
    if request.param == "estimated":
        monkeypatch.setattr(status, "COUNTED", 0)
    return str(request.param)


def fill() -> None:
    """Two rows that are due, one that is held, one that waits, two failing, of which one parked."""
    due = [Trouble.objects.create() for _ in range(6)]
    claim(Trouble, 1)
    held = Trouble.objects.get(state_claim__isnull=False)
    free = [row for row in due if row != held]
    put(free[0], state_next=PAST)
    put(free[2], state_next=FUTURE)
    put(free[3], state_next=FUTURE, state_failures=1)
    put(free[4], state_next=None, state_failures=3)
    for row in free[3:]:
        record("default", Trouble, [(row.pk, "new", Failure("ValueError", "no"))], "me")


def test_each_number(way: str) -> None:
    fill()

    found = of_state("new")

    assert (found.due.number, found.running.number, found.parked.number) == (2, 1, 1)
    assert found.failing == Number(2, estimated=way == "estimated")
    assert found.oldest_due is not None and 3590 < found.oldest_due < 3700


def test_rows_are_counted_up_to_a_number_of_them() -> None:
    fill()

    assert of_state("new").rows == Number(6)
    assert of_state("done").rows == Number(0)
    assert of_state("done").oldest_due is None


def test_a_state_that_the_graph_does_not_declare(way: str) -> None:
    row = Trouble.objects.create()
    put(row, state="nirvana")
    if way == "estimated" and connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE tests_trouble")

    assert of_state("nirvana").declared is False


def test_a_walk_that_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "COUNTED", 0)
    monkeypatch.setattr(status, "WALKED", 3)
    for _ in range(6):
        Trouble.objects.create()

    found = of_state("new")

    assert found.due.estimated is True
    assert found.due.number >= 3
    assert str(found.due) == f"~{found.due.number}"


def test_the_table(stator: Stator) -> None:
    Noop.objects.create(state="done")
    put(Noop.objects.create(), state="gone", state_next=None)

    lines = stator("status", "tests.Noop").lines

    assert [line.split() for line in lines] == [
        ["model", "state", "rows", "due", "oldest", "due", "running", "failing", "parked"],
        ["tests.Noop", "done", "1", "0", "-", "0", "0", "0"],
        ["tests.Noop", "gone", "(unknown)", "1", "0", "-", "0", "0", "0"],
    ]


def test_json(stator: Stator) -> None:
    found = stator("status", "tests.Noop", "--empty", "--json").data

    assert [each["state"] for each in found] == ["new", "done"]
    assert found[0]["rows"] == {"number": 0, "estimated": False}


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.django_db(transaction=True)  # an ANALYZE may commit
def test_a_million_rows_take_less_than_a_second(stator: Stator) -> None:
    now = clock.now()
    Noop.objects.bulk_create(
        Noop(
            state="new" if number % 4 else "done",
            state_next=now + timedelta(seconds=number - 500) if number % 4 else None,
        )
        for number in range(1000)
    )
    columns = "state, state_changed, state_next, state_failures"
    double = f"INSERT INTO tests_noop ({columns}) SELECT {columns} FROM tests_noop"
    with connection.cursor() as cursor:
        for _ in range(10):
            cursor.execute(double)
    with connection.cursor() as cursor:
        analyse = "ANALYZE TABLE tests_noop" if connection.vendor == "mysql" else "ANALYZE"
        cursor.execute(analyse)

    took = []
    for _ in range(3):  # the machine may be busy with something else
        began = time.perf_counter()
        found = stator("status", "tests.Noop", "--json").data
        took.append(time.perf_counter() - began)

    by_state = {each["state"]: each for each in found}
    assert min(took) < 1
    assert 200_000 < by_state["done"]["rows"]["number"] < 300_000
    assert 250_000 < by_state["new"]["due"]["number"] < 550_000

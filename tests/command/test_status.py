"""``manage.py stator status``: how many rows are in each state, and what they wait for."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import connection
from django.utils import timezone

from django_fsmworker import clock
from django_fsmworker.diagnosis import status
from django_fsmworker.diagnosis.status import Number, StateStatus, status_of
from django_fsmworker.models import BulkAction, Worker
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.limits import WHOLE_LANE
from django_fsmworker.pauses import pause
from django_fsmworker.store import pauses
from django_fsmworker.store.failures import Failure, record
from django_fsmworker.testing import travel
from tests.app.models import Account, Noop, Parcel, Trouble
from tests.command.conftest import Ended
from tests.database.rows import FUTURE, PAST, claim, put
from tests.workers_on_record import on_record

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


def test_rows_that_went_on_to_their_failure_state_fail_no_more(way: str) -> None:
    fill()
    row = Trouble.objects.create(state="failed")
    given_up = (row.pk, "new", Failure("ValueError", "no"))
    record("default", Trouble, [given_up], "me", {row.pk: "failed"})

    assert of_state("new").failing.number == 2


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
        ["model", "state", "rows", "due", "oldest", "due", "running", "failing", "parked"]
        + ["paused", "per", "min", "p50", "p95", "workers"],
        ["tests.Noop", "done", "1", "0", "-", "0", "0", "0", "-", "-", "-", "-", "0"],
        ["tests.Noop", "gone", "(unknown)", "1", "0", "-", "0", "0", "0", "-", "-", "-", "-", "0"],
    ]


@pytest.mark.postgresql
def test_a_table_that_is_not_migrated(stator: Stator) -> None:
    Trouble.objects.create()
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {Noop._meta.db_table} DROP COLUMN state_lease")

    ended = stator("status", "tests.Noop", "tests.Trouble", "--json")

    assert [each["model"] for each in ended.data] == ["tests.Trouble"]
    assert ended.code == 1
    assert ended.errors.startswith("The table of tests.Noop in the database 'default' is not as")
    assert ended.errors.endswith("; what is in it is left out.\n")


def test_json(stator: Stator) -> None:
    found = stator("status", "tests.Noop", "--empty", "--json").data

    assert [each["state"] for each in found] == ["new", "done"]
    assert found[0]["rows"] == {"number": 0, "estimated": False}


def line_of(stator: Stator, state: str, *arguments: str) -> dict[str, Any]:
    data = stator("status", *arguments, "--empty", "--json").data
    (found,) = [each for each in data if each["state"] == state]
    return dict(found)


class TestWhoRunsThem:
    def test_living_workers_that_take_up_rows(self, stator: Stator) -> None:
        on_record("one")
        on_record("two", status="suspended")
        on_record("three", silent=31)
        on_record("four", served={"tests.Trouble": ""})

        assert line_of(stator, "new", "tests.Noop")["workers"] == 1

    def test_nobody_runs_a_state_that_is_not_declared(self, stator: Stator) -> None:
        on_record("one")
        put(Noop.objects.create(), state="gone")

        assert line_of(stator, "gone", "tests.Noop")["workers"] == 0

    def test_events_are_run_with_the_models_that_they_are_for(self, stator: Stator) -> None:
        targets = [each for each in stator_models() if each.state_graph.triggers]
        served = {each._meta.label: "" for each in targets}
        on_record("one", served=served)
        assert line_of(stator, "pending", "django_fsmworker.Event")["workers"] == 1

        on_record("two", served=dict(list(served.items())[1:]))
        assert line_of(stator, "pending", "django_fsmworker.Event")["workers"] == 1
        Worker.objects.filter(pk="one").delete()
        assert line_of(stator, "pending", "django_fsmworker.Event")["workers"] == 0

    def test_bulk_actions_are_run_by_workers_with_an_admin(self, stator: Stator) -> None:
        BulkAction.objects.create(model="tests.Noop", verb="retry", started=timezone.now())
        on_record("one", served={"tests.Noop": "", "django_fsmworker.BulkAction[tests.Noop]": ""})
        on_record("two", served={"tests.Noop": ""})

        assert line_of(stator, "pending", "django_fsmworker.BulkAction")["workers"] == 1

    def test_how_fast(self, stator: Stator) -> None:
        told = {"model": "tests.Noop", "state": "new", "per_minute": 30.0}
        on_record("one", pace=[{**told, "times": {"0.001": 50}}])
        on_record("two", pace=[{**told, "times": {"0.001": 40, "1.12": 10}}], status="suspended")
        on_record("three", pace=[{**told, "times": {"30": 100}}], status="stopped")

        found = line_of(stator, "new", "tests.Noop")

        assert found["per_minute"] == 60
        assert found["p50"] < 0.001
        assert 0.7 < found["p95"] <= 1.12
        assert "60" in stator("status", "tests.Noop", "--empty").lines[1].split()
        assert line_of(stator, "done", "tests.Noop")["per_minute"] == 0
        assert line_of(stator, "done", "tests.Noop")["p50"] is None


class TestWhatIsPaused:
    def test_a_state(self, stator: Stator) -> None:
        pause(Parcel, "plain")

        assert line_of(stator, "plain", "tests.Parcel")["paused"] is True
        assert line_of(stator, "urgent", "tests.Parcel")["paused"] is False
        lines = [each.split() for each in stator("status", "tests.Parcel", "--empty").lines]
        assert [each[8] for each in lines if each[1] == "plain"] == ["yes"]

    @pytest.mark.parametrize("what", [Parcel, None])
    def test_a_model_and_everything(self, stator: Stator, what: Any) -> None:
        pause(what)

        assert line_of(stator, "urgent", "tests.Parcel")["paused"] is True

    def test_keys(self, stator: Stator) -> None:
        pause(Parcel, "keyed", key=1)
        pause(Parcel, "keyed", key=2)

        found = line_of(stator, "keyed", "tests.Parcel")

        assert (found["paused"], found["paused_keys"]) == (False, 2)
        assert "2 keys" in stator("status", "tests.Parcel", "--empty").output

    def test_a_breaker(self, stator: Stator) -> None:
        pauses.add("default", "tests.Parcel", "broken", WHOLE_LANE, 30, kind="breaker")

        found = line_of(stator, "broken", "tests.Parcel")
        assert (found["paused"], found["breaker"]) == (False, "open")
        assert "breaker open" in stator("status", "tests.Parcel", "--empty").output
        with travel(seconds=31):
            assert line_of(stator, "broken", "tests.Parcel")["breaker"] == "half_open"

    def test_events_of_a_model(self, stator: Stator) -> None:
        pause(Account)
        pause(Noop)

        assert line_of(stator, "pending", "django_fsmworker.Event")["paused_keys"] == 1


@pytest.mark.django_db(databases=["default", "other"])
class TestSeveralDatabases:
    @pytest.fixture(autouse=True)
    def rows(self) -> None:
        for using, number in (("default", 2), ("other", 3)):
            for _ in range(number):
                Noop().save(using=using)

    def test_are_added_up(self, stator: Stator) -> None:
        on_record("one")
        pause(Noop, "new", using="other")

        found = line_of(stator, "new", "tests.Noop", "--database", "default,other")

        assert found["rows"] == {"number": 5, "estimated": False}
        assert (found["database"], found["paused"]) == ("default,other", True)
        assert found["workers"] == 0, "in the other one"
        assert line_of(stator, "new", "tests.Noop", "--database=other")["rows"]["number"] == 3

    def test_are_those_in_which_a_worker_runs_the_model(self, stator: Stator) -> None:
        assert line_of(stator, "new", "tests.Noop")["database"] == "default"
        on_record("one", options={"databases": ["default", "other"]})
        assert line_of(stator, "new", "tests.Noop")["database"] == "default"

        on_record("one", using="other")

        found = line_of(stator, "new", "tests.Noop")
        assert (found["database"], found["rows"]["number"]) == ("default,other", 5)
        assert found["workers"] == 1

    def test_one_that_does_not_exist_is_refused(self, stator: Stator) -> None:
        with pytest.raises(CommandError, match="^There is no database 'archive'; DATABASES has"):
            stator("status", "--database", "default,archive")


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

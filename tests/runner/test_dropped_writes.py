"""Triggers that drop writes without an error: the row looks locked, and is tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from django_fsmworker.models import Event
from tests.app.models import Account, Trouble
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import failure, fresh

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]


@pytest.fixture
def dropping(vendor: str) -> Iterator[Callable[..., None]]:
    """``dropping(condition)``: such updates of a row of Trouble do not come about."""

    def create(condition: str, table: str = "tests_trouble") -> None:
        trigger = f"CREATE TRIGGER dropping BEFORE UPDATE ON {table} FOR EACH ROW"
        statements = [f"{trigger} WHEN {condition} BEGIN SELECT RAISE(IGNORE); END"]
        if vendor == "postgresql":
            statements = [
                "CREATE FUNCTION dropping() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF {condition} THEN RETURN NULL; END IF; RETURN NEW; END $$",
                f"{trigger} EXECUTE FUNCTION dropping()",
            ]
        with connection.cursor() as cursor:
            for sql in statements:
                cursor.execute(sql)

    yield create
    drop = "DROP FUNCTION dropping() CASCADE" if vendor == "postgresql" else "DROP TRIGGER dropping"
    with connection.cursor() as cursor:
        cursor.execute(drop)


@pytest.mark.postgresql
@pytest.mark.sqlite  # MariaDB has no way to drop a write without an error
def test_the_row_fails_of_it(
    start_runner: Start, eventually: Eventually, dropping: Callable[[str], None]
) -> None:
    dropping("NEW.state = 'done' AND NEW.value = 7")
    bad, good = Trouble.objects.create(value=7), Trouble.objects.create()
    runner = start_runner(Trouble)

    eventually(lambda: fresh(bad).state_failures == 1)

    record = failure(bad)
    assert record is not None
    assert record.error == "django_fsmworker.exceptions.WriteDropped"
    assert record.message == (
        "The database dropped the write to the state done without an error: a trigger or a rule "
        "of the table keeps it from the row."
    )
    assert fresh(bad).state == "new"
    eventually(lambda: fresh(good).state == "done")
    eventually(lambda: runner.total("failed") == 1)


@pytest.mark.postgresql
@pytest.mark.sqlite  # MariaDB has no way to drop a write without an error
def test_so_does_an_event_that_moves_it(dropping: Callable[..., None]) -> None:
    dropping("NEW.state = 'closed' AND NEW.mode = 'bad'", "tests_account")
    bad, good = Account.objects.create(mode="bad"), Account.objects.create()
    for row in (bad, good):
        row.state_submit("close", max_attempts=1)

    one_pass(Account)

    failed, delivered = Event.objects.order_by("pk")
    assert (fresh(good).state, delivered.state) == ("closed", "delivered")
    assert (fresh(bad).state, failed.state) == ("open", "failed")
    assert "The database dropped the write to the state closed" in failed.reason


@pytest.mark.postgresql
@pytest.mark.sqlite  # MariaDB has no way to drop a write without an error
def test_a_row_that_takes_nothing_is_let_go(
    start_runner: Start,
    eventually: Eventually,
    dropping: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    dropping("NEW.state_claim IS NULL")
    bad = Trouble.objects.create(value=7)
    runner = start_runner(Trouble, lease=60)

    eventually(lambda: any("refuses every write to" in each for each in caplog.messages))

    eventually(lambda: runner.runner.status().in_flight == 0)
    assert fresh(bad).state == "new"


@pytest.mark.postgresql
@pytest.mark.mysql  # on SQLite the file is locked, and the write waits
def test_a_row_that_is_locked_for_long_has_not_failed(
    start_runner: Start,
    eventually: Eventually,
    locked: Any,
    held_check: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("django_fsmworker.runner.settler.MOST_UNTAKEN", 2)
    row = Trouble.objects.create(mode="held")
    runner = start_runner(Trouble)
    eventually(lambda: held_check.begun)

    with locked(row):
        held_check.released.set()
        (attempt,) = runner.runner.parts.in_flight.all()
        eventually(lambda: attempt.untaken >= 7)
    eventually(lambda: fresh(row).state == "done")

    assert failure(row) is None

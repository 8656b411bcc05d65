"""Rows of every kind of model are claimed, renewed, settled, failed, parked and deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Model, QuerySet

from django_fsmworker import clock
from django_fsmworker.models import FailureRecord
from django_fsmworker.models.keys import key_of, row_key
from tests.app.models import Document, ParentKind, kinds
from tests.model_kinds import KINDS, KindOfModel, every_kind, values
from tests.runner.embedded import Embedded, one_pass
from tests.runner.held_check import HeldCheck

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]

PAST = timedelta(days=1)


@pytest.fixture(autouse=True)
def routers(settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.routers.ByModel"]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The rows that checks with the wish ``note`` were given; they are done."""
    rows: list[Any] = []

    def note(states: Any, row: Any) -> Any:
        rows.append(row)
        return states.done

    monkeypatch.setitem(kinds.WISHES, "note", note)
    return rows


@pytest.fixture
def held_check(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldCheck]:
    """The check of rows with the wish ``wait``."""
    held_check = HeldCheck()
    monkeypatch.setitem(kinds.WISHES, "wait", lambda states, row: held_check(row))
    yield held_check
    held_check.released.set()


def record(kind: KindOfModel, row: Any) -> Any:
    """The row's failure record in the row's own database; in any other there is none."""
    records = [
        FailureRecord.objects.using(using)
        .filter(model=kind.runs._meta.label, row=row_key(key_of(row)))
        .first()
        for using in (kind.using, "default" if kind.using == "other" else "other")
    ]
    assert records[1] is None
    return records[0]


def end(kind: KindOfModel, row: Any) -> tuple[str, bool, int]:
    """Where a row is that nobody holds: its state, whether it is due again, its failures."""
    stored = kind.stored(row)
    assert (stored.state_claim, stored.state_lease) == (None, None)
    return stored.state, stored.state_next is not None, stored.state_failures


def test_long_checks_keep_their_leases(
    start_runner: Start, eventually: Eventually, held_check: HeldCheck
) -> None:
    """Rows of every kind, in two databases, in the hands of one runner."""
    rows = [(kind, kind.row(wish="wait")) for kind in KINDS]
    models = dict.fromkeys(kind.runs for kind in KINDS)

    def stored() -> list[Any]:
        return [kind.stored(row) for kind, row in rows]

    # One slot is kept for rows of other states.
    runner = start_runner(*models, lease=2, concurrency=len(rows) + 1)
    eventually(lambda: len(held_check.begun) == len(rows))
    claimed = stored()
    eventually(
        lambda: all(
            now.state_lease > then.state_lease for now, then in zip(stored(), claimed, strict=True)
        )
    )
    held = stored()
    held_check.released.set()
    eventually(lambda: {row.state for row in stored()} == {"done"})

    assert Counter(held_check.begun) == Counter(key_of(row) for _, row in rows)
    assert [row.state_claim for row in held] == [row.state_claim for row in claimed]
    assert runner.total("superseded") == 0


@every_kind
class TestEveryKind:
    def test_rows_come_to_every_end(self, kind: KindOfModel) -> None:
        wishes = ["done", "stay", "fail", "stuck"]
        rows = [kind.row(number, wish=wish) for number, wish in enumerate(wishes)]
        one_pass(kind.runs)
        one_pass(kind.runs)  # what has come to `stuck` is due there

        done, stays, failed, parked = rows

        assert end(kind, done) == ("done", False, 0)
        assert end(kind, stays) == ("new", True, 0)
        assert end(kind, failed) == ("failed", False, 0)
        assert end(kind, parked) == ("stuck", False, 1)
        assert [record(kind, row) is not None for row in rows] == [False, False, True, True]
        assert record(kind, failed).message == "fail it shall"

    def test_a_failing_row_that_recovers_is_resolved(self, kind: KindOfModel) -> None:
        row = kind.row(wish="stuck")
        one_pass(kind.runs)
        one_pass(kind.runs)

        kind.model.state_transition_queryset(
            QuerySet(kind.model, using=kind.using).filter(pk=row.pk), "done"
        )

        assert end(kind, row) == ("done", False, 0)
        assert record(kind, row).resolved is not None

    def test_checks_get_whole_rows_of_the_model_that_declares_the_state(
        self, kind: KindOfModel, seen: list[Any]
    ) -> None:
        created = [kind.row(number, wish="note") for number in range(4)]

        one_pass(kind.runs)

        assert {type(row) for row in seen} == {kind.runs}
        assert {row.pk for row in seen} == {key_of(row) for row in created}
        for row in seen:
            assert not row.get_deferred_fields()
            own, stored = values(row), values(kind.stored(row))
            assert all(own[name] == stored[name] for name in own if not name.startswith("state"))
            row.save()
            assert kind.stored(row).state == "done"

    def test_guards_of_claimed_and_of_swept_rows(self, kind: KindOfModel) -> None:
        claimed, swept, stays = [
            kind.row(1, wish="ask"),
            kind.row(2, state="asked", wish="end"),
            kind.row(3, state="asked"),
        ]

        one_pass(kind.runs)

        assert kind.stored(claimed).state == "asked"
        assert end(kind, swept) == ("done", False, 0)
        assert kind.stored(stays).state == "asked"

    def test_what_has_not_started_is_handed_back(
        self, kind: KindOfModel, start_runner: Start, eventually: Eventually, held_check: HeldCheck
    ) -> None:
        rows = [kind.row(number, wish="wait") for number in range(2)]
        runner = start_runner(kind.runs, concurrency=1, drain_timeout=0.1)
        eventually(lambda: held_check.begun)
        eventually(lambda: kind.rows().filter(state_claim__isnull=False).count() == 2)

        runner.runner.stop(timeout=0.1)
        eventually(lambda: runner.total("interrupted") == 2)
        held_check.released.set()

        assert [end(kind, row) for row in rows] == [("new", True, 0)] * 2

    def test_lapsed_leases_are_taken_over(self, kind: KindOfModel) -> None:
        row = kind.row()
        moment = clock.now() - PAST
        kind.rows().update(state_claim=2, state_lease=moment, state_next=moment)

        one_pass(kind.runs)

        assert end(kind, row) == ("done", False, 0)
        assert record(kind, row).resolved is not None

    def test_rows_that_outlived_their_state_are_deleted(
        self, kind: KindOfModel, start_runner: Start, eventually: Eventually
    ) -> None:
        old = [kind.row(number, state="done") for number in range(3)]
        young = kind.row(4, state="done")
        FailureRecord.objects.using(kind.using).create(
            model=kind.runs._meta.label,
            row=row_key(key_of(old[0])),
            first_seen=clock.now(),
            last_seen=clock.now(),
        )
        kind.rows().exclude(pk=key_of(young)).update(state_changed=clock.now() - PAST)

        runner = start_runner(kind.runs, delete_interval=0.1)
        eventually(lambda: runner.total("expired") == 3)

        for model in (kind.model, kind.runs):
            left: QuerySet[Any] = QuerySet(model, using=kind.using)
            assert [key_of(each) for each in left] == [key_of(young)]
        assert record(kind, old[0]) is None


def test_a_row_goes_from_all_its_tables() -> None:
    invoices = KINDS[[kind.name for kind in KINDS].index("child of that child")]
    invoices.row(state="done")
    leaves = KINDS[[kind.name for kind in KINDS].index("grandchild of the parent")]
    leaves.row(state="done")
    for kind in (invoices, leaves):
        kind.rows().update(state_changed=clock.now() - PAST)

    one_pass(invoices.runs, leaves.runs)

    models: list[type[Model]] = [Document, invoices.runs, invoices.model, ParentKind, leaves.model]
    assert [model._default_manager.count() for model in models] == [0] * 5

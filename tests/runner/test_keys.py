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
MODELS = list(dict.fromkeys(kind.runs for kind in KINDS))


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

    def stored() -> list[Any]:
        return [kind.stored(row) for kind, row in rows]

    # One slot is kept for rows of other states. Leases are renewed when a third has passed.
    runner = start_runner(*MODELS, lease=6, concurrency=len(rows) + 1)
    eventually(lambda: len(held_check.begun) == len(rows), 30)
    claimed = stored()
    eventually(
        lambda: all(
            now.state_lease > then.state_lease for now, then in zip(stored(), claimed, strict=True)
        ),
        30,
    )
    held = stored()
    held_check.released.set()
    eventually(lambda: {row.state for row in stored()} == {"done"}, 30)

    assert Counter(held_check.begun) == Counter(key_of(row) for _, row in rows)
    assert [row.state_claim for row in held] == [row.state_claim for row in claimed]
    assert runner.total("superseded") == 0


class TestRowsOfEveryKind:
    """In two databases, and in the hands of one runner."""

    def test_come_to_every_end(self) -> None:
        wishes = ["done", "stay", "fail", "stuck"]
        rows = [
            (kind, [kind.row(number, wish=wish) for number, wish in enumerate(wishes)])
            for kind in KINDS
        ]

        one_pass(*MODELS)
        one_pass(*MODELS)  # what has come to `stuck` is due there

        for kind, (done, stays, failed, parked) in rows:
            assert end(kind, done) == ("done", False, 0), kind
            assert end(kind, stays) == ("new", True, 0), kind
            assert end(kind, failed) == ("failed", False, 0), kind
            assert end(kind, parked) == ("stuck", False, 1), kind
            assert record(kind, done) is record(kind, stays) is None, kind
            assert record(kind, failed).message == "fail it shall", kind
            assert record(kind, parked) is not None, kind

    def test_that_fail_and_recover_are_resolved(self) -> None:
        rows = [(kind, kind.row(wish="stuck")) for kind in KINDS]
        one_pass(*MODELS)
        one_pass(*MODELS)

        for kind, row in rows:
            kind.model.state_transition_queryset(
                QuerySet(kind.model, using=kind.using).filter(pk=row.pk), "done"
            )

            assert end(kind, row) == ("done", False, 0), kind
            assert record(kind, row).resolved is not None, kind

    def test_come_to_checks_whole_and_of_the_model_that_declares_the_state(
        self, seen: list[Any]
    ) -> None:
        created = [(kind, kind.row(number, wish="note")) for kind in KINDS for number in range(4)]

        one_pass(*MODELS)

        assert Counter((type(row), row.pk) for row in seen) == Counter(
            (kind.runs, key_of(row)) for kind, row in created
        )
        kind_of = {(kind.runs, key_of(row)): kind for kind, row in created}
        for row in seen:
            kind = kind_of[type(row), row.pk]
            assert not row.get_deferred_fields()
            own, stored = values(row), values(kind.stored(row))
            assert all(own[name] == stored[name] for name in own if not name.startswith("state"))
            row.save()
            assert kind.stored(row).state == "done"

    def test_are_moved_by_guards_when_they_are_claimed_and_when_they_are_swept(self) -> None:
        rows = [
            (
                kind,
                kind.row(1, wish="ask"),
                kind.row(2, state="asked", wish="end"),
                kind.row(3, state="asked"),
            )
            for kind in KINDS
        ]

        one_pass(*MODELS)

        for kind, claimed, swept, stays in rows:
            assert kind.stored(claimed).state == "asked", kind
            assert end(kind, swept) == ("done", False, 0), kind
            assert kind.stored(stays).state == "asked", kind

    def test_are_taken_over_when_their_leases_lapse(self) -> None:
        rows = [(kind, kind.row()) for kind in KINDS]
        moment = clock.now() - PAST
        for kind, row in rows:
            lapsed = kind.rows().filter(pk=key_of(row))
            lapsed.update(state_claim=2, state_lease=moment, state_next=moment)

        one_pass(*MODELS)

        for kind, row in rows:
            assert end(kind, row) == ("done", False, 0), kind
            assert record(kind, row).resolved is not None, kind

    def test_are_deleted_when_they_outlived_their_state(
        self, start_runner: Start, eventually: Eventually
    ) -> None:
        rows = [(kind, [kind.row(number, state="done") for number in range(4)]) for kind in KINDS]
        for kind, (oldest, *_, young) in rows:
            FailureRecord.objects.using(kind.using).create(
                model=kind.runs._meta.label,
                row=row_key(key_of(oldest)),
                first_seen=clock.now(),
                last_seen=clock.now(),
            )
            old = kind.rows().filter(state="done").exclude(pk=key_of(young))
            old.update(state_changed=clock.now() - PAST)
        for kind, (*_, young) in rows:
            kind.rows().filter(pk=key_of(young)).update(state_changed=clock.now())

        runner = start_runner(*MODELS, delete_interval=0.1)
        eventually(lambda: runner.total("expired") == 3 * len(KINDS), 30)

        for kind, each in rows:
            oldest, young = each[0], each[-1]
            for model in (kind.model, kind.runs):
                left: QuerySet[Any] = QuerySet(model, using=kind.using)
                keys = {key_of(row) for row in left}
                assert [row for row in each if key_of(row) in keys] == [young], kind
            assert record(kind, oldest) is None, kind


@every_kind
def test_what_has_not_started_is_handed_back(
    kind: KindOfModel, start_runner: Start, eventually: Eventually, held_check: HeldCheck
) -> None:
    rows = [kind.row(number, wish="wait") for number in range(2)]
    runner = start_runner(kind.runs, concurrency=1, drain_timeout=0.1)
    eventually(lambda: held_check.begun)
    eventually(lambda: kind.rows().filter(state_claim__isnull=False).count() == 2)

    runner.runner.stop(timeout=0.1)
    eventually(lambda: runner.total("interrupted") == 2)
    held_check.released.set()

    assert [end(kind, row) for row in rows] == [("new", True, 0)] * 2


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

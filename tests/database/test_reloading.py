"""Rows are loaded again for the halves of a batch, as far as they still carry their claim."""

from __future__ import annotations

from typing import Any

import pytest

from django_fsmworker.runner.execution.check_run import held, reload
from django_fsmworker.runner.in_flight.attempts import (
    Attempt,
    Batch,
    attempts_at,
    attempts_of,
    halves,
    together,
)
from django_fsmworker.store import store_for
from tests.app.models import CompositeKind, Hidden, Noop, RelatedKey, TextKey, UUIDKey
from tests.database.rows import LEASE, claim, fence, fetch

pytestmark = pytest.mark.django_db


def related() -> list[Any]:
    texts = TextKey.objects.bulk_create([TextKey(code=code, state="done") for code in "ab"])
    return [RelatedKey(text=text) for text in texts]


@pytest.mark.parametrize(
    ("model", "make"),
    [
        (Noop, lambda: [Noop(), Noop()]),
        (Hidden, lambda: [Hidden(), Hidden()]),
        (UUIDKey, lambda: [UUIDKey(), UUIDKey()]),
        (TextKey, lambda: [TextKey(code="it's"), TextKey(code="100 %")]),
        (RelatedKey, related),
        (CompositeKind, lambda: [CompositeKind(pk=(1, "a")), CompositeKind(pk=(1, "b"))]),
    ],
)
def test_rows_with_keys_of_every_kind_are_found(model: Any, make: Any) -> None:
    for row in make():
        row.save(force_insert=True)
    rows = claim(model)

    found = held("default", model, [fence(row) for row in rows])

    assert set(found) == {row.pk for row in rows}
    for row in rows:
        again = found[row.pk]
        assert again is not row
        assert again.state_claim == row.state_claim


def test_thousands_of_held_rows_are_loaded_again() -> None:
    Noop.objects.bulk_create(Noop() for _ in range(3000))
    rows = claim(Noop, limit=3000)

    assert len(held("default", Noop, [fence(row) for row in rows])) == 3000


def test_without_holds_nothing_is_loaded() -> None:
    assert held("default", Noop, []) == {}


def claimed(number: int) -> list[Attempt]:
    Noop.objects.bulk_create(Noop() for _ in range(number))
    attempts = attempts_at(store_for("default"), Noop, claim(Noop), 0.0, LEASE)
    assert len(attempts) == number
    return attempts


def stale(attempts: list[Attempt]) -> Batch:
    """A batch whose rows were in another one before."""
    (whole,) = together(attempts)
    assert isinstance(whole, Batch)
    first, second = halves(whole)
    (again,) = together([*attempts_of(first), *attempts_of(second)])
    assert isinstance(again, Batch)
    assert again.stale
    return again


def nobody(attempt: Attempt, outcome: None) -> None:
    pytest.fail(f"{attempt.pk} was given back")


def test_a_batch_goes_on_with_fresh_rows() -> None:
    batch = stale(claimed(3))
    before = [each.row for each in batch.attempts]
    before[0].state_failures = 7

    assert reload(batch, nobody)

    assert [each.row.pk for each in batch.attempts] == [row.pk for row in before]
    assert not {id(row) for row in before} & {id(each.row) for each in batch.attempts}
    assert [each.row.state_failures for each in batch.attempts] == [0, 0, 0]
    assert not batch.stale
    assert not any(each.stale for each in batch.attempts)


def test_rows_that_are_not_ours_any_more_are_given_back() -> None:
    batch = stale(claimed(5))
    moved, deleted, taken = (each.row for each in batch.attempts[:3])
    fetch(moved).state_transition("done")
    Noop.objects.filter(pk=deleted.pk).delete()
    Noop.objects.filter(pk=taken.pk).update(state_claim=12)
    given_back: list[Any] = []

    assert reload(batch, lambda attempt, outcome: given_back.append((attempt.pk, outcome)))

    assert given_back == [(row.pk, None) for row in (moved, deleted, taken)]
    assert len(batch.attempts) == 2


def test_without_any_the_batch_is_not_to_be_run() -> None:
    batch = stale(claimed(2))
    Noop.objects.all().delete()

    assert not reload(batch, nobody)

    assert len(batch.attempts) == 2, "to be handed back"


def test_a_row_alone_is_loaded_unless_it_is_gone() -> None:
    first, second = (each for each in halves(stale(claimed(2))))
    Noop.objects.filter(pk=second.pk).delete()

    assert reload(first, nobody)
    assert not reload(second, nobody)

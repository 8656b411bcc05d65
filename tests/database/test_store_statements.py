"""One statement a batch, whatever its size; a few more where failures are noted."""

from __future__ import annotations

import pytest

from django_fsmworker.runner.writing import write
from django_fsmworker.store import Kind, store_for
from django_fsmworker.store.failures import Failure
from testapp.models import Chain, Noop, Order
from tests.database.rows import LEASE, claim, hold, lanes, moved, statements, stayed

pytestmark = pytest.mark.django_db

SIZES = pytest.mark.parametrize("size", [1, 10, 1000])


@pytest.fixture
def rows(size):
    Noop.objects.bulk_create([Noop() for _ in range(size)])
    return claim(Noop)


@SIZES
class TestOneStatement:
    def test_claim(self, size):
        Noop.objects.bulk_create([Noop() for _ in range(size)])

        with statements() as sent:
            found = claim(Noop)

        assert (len(found), len(sent)) == (size, 1)

    def test_settle(self, size, rows):
        with statements() as sent:
            written = store_for("default").settle(Noop, [moved(row, "done") for row in rows])

        assert (len(written), len(sent)) == (size, 1)

    def test_renew(self, size, rows):
        with statements() as sent:
            renewed = store_for("default").renew(Noop, [hold(row) for row in rows], LEASE)

        assert (len(renewed), len(sent)) == (size, 1)

    def test_hand_back(self, size, rows):
        with statements() as sent:
            freed = store_for("default").hand_back(Noop, [hold(row) for row in rows])

        assert (len(freed), len(sent)) == (size, 1)

    def test_still_held(self, size, rows):
        with statements() as sent:
            held = store_for("default").still_held(Noop, [hold(row) for row in rows])

        assert (len(held), len(sent)) == (size, 1)

    def test_writing_without_failures(self, size, rows):
        with statements() as sent:
            write(store_for("default"), Noop, [moved(row, "done") for row in rows], "worker")

        assert len(sent) == 1


def test_claim_from_many_lanes():
    for state in ("new", "paid", "shipped", "failed"):
        Order.objects.create(state=state, state_next="2020-01-01T00:00:00Z")

    with statements() as sent:
        found = claim(Order)

    assert (len(found), len(sent)) == (4, 1)


def test_peek_at_many_models():
    with statements() as sent:
        store_for("default").peek({model: lanes(model) for model in (Order, Chain, Noop)})

    assert len(sent) == 1


@pytest.mark.parametrize("size", [1, 100])
def test_failures_are_noted_in_a_few_statements(size):
    Noop.objects.bulk_create([Noop() for _ in range(size)])
    failure = Failure("RuntimeError", "no")
    outcomes = [stayed(row, kind=Kind.FAILED, failures=1, failure=failure) for row in claim(Noop)]

    with statements() as sent:
        write(store_for("default"), Noop, outcomes, "worker")

    assert len(sent) <= 5

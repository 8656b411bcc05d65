"""One statement a batch, whatever its size; a few more where failures are noted.

MariaDB and MySQL lock rows with one statement and write them with another, 500 at a time.
"""

from __future__ import annotations

import pytest

from django_fsmworker.runner.execution.writing import write
from django_fsmworker.store import Ending, Lane, store_for
from django_fsmworker.store.failures import Failure
from testapp.models import Order
from tests.app.models import Chain, Noop
from tests.database.rows import LEASE, claim, fence, lanes, moved, statements, stayed

pytestmark = pytest.mark.django_db

LOCK, WRITE, LOOK = 1, 1, 1
SIZES = pytest.mark.parametrize("size", [1, 10, 1000])


@pytest.fixture
def once(vendor):
    """``once(size, mysql)``: the statements for so many rows, where one does not do."""
    return lambda size, mysql: mysql * -(-size // 500) if vendor == "mysql" else 1


@pytest.fixture
def rows(size):
    Noop.objects.bulk_create([Noop() for _ in range(size)])
    return claim(Noop)


@SIZES
class TestOneStatement:
    def test_claiming_is_one_whatever_the_number(self, size, once, vendor):
        Noop.objects.bulk_create([Noop() for _ in range(size)])

        with statements() as sent:
            found = claim(Noop)

        # Fewer rows than were asked for: MySQL has a look whether there are more.
        beside = LOCK + LOOK if vendor == "mysql" else 0
        assert (len(found), len(sent)) == (size, once(size, WRITE) + beside)

    def test_claim_as_many_as_there_are(self, size, once, vendor):
        Noop.objects.bulk_create([Noop() for _ in range(size)])

        with statements() as sent:
            found = store_for("default").claim(Noop, [Lane("new", size)], LEASE)

        beside = LOCK if vendor == "mysql" else 0
        assert (len(found), len(sent)) == (size, once(size, WRITE) + beside)

    def test_settling_is_one_whatever_the_number(self, size, rows, once):
        with statements() as sent:
            written = store_for("default").settle(Noop, [moved(row, "done") for row in rows])

        assert (len(written), len(sent)) == (size, once(size, LOCK + WRITE))

    def test_renewing_is_one_whatever_the_number(self, size, rows, once):
        with statements() as sent:
            renewed = store_for("default").renew(Noop, [fence(row) for row in rows], LEASE)

        assert (len(renewed), len(sent)) == (size, once(size, LOCK + WRITE))

    def test_handing_back_is_one_whatever_the_number(self, size, rows, once):
        with statements() as sent:
            freed = store_for("default").hand_back(Noop, [fence(row) for row in rows])

        assert (len(freed), len(sent)) == (size, once(size, LOCK + WRITE))

    def test_asking_for_held_rows_is_one_whatever_the_number(self, size, rows, once):
        with statements() as sent:
            held = store_for("default").still_held(Noop, [fence(row) for row in rows])

        assert (len(held), len(sent)) == (size, once(size, LOOK))

    def test_outcomes_without_a_failure_are_one_whatever_the_number(self, size, rows, once):
        with statements() as sent:
            write(store_for("default"), Noop, [moved(row, "done") for row in rows], "worker")

        assert len(sent) == once(size, LOCK + WRITE)


def test_claiming_from_many_lanes_is_one_statement(vendor):
    for state in ("new", "paid", "shipped", "failed"):
        Order.objects.create(state=state, state_next="2020-01-01T00:00:00Z")

    with statements() as sent:
        found = claim(Order)

    beside = LOCK + LOOK if vendor == "mysql" else 0
    assert (len(found), len(sent)) == (4, WRITE + beside)


def test_peeking_at_many_models_is_one_statement():
    with statements() as sent:
        store_for("default").peek({model: lanes(model) for model in (Order, Chain, Noop)})

    assert len(sent) == 1


@pytest.mark.parametrize("size", [1, 100])
def test_failures_are_noted_in_a_few_statements(size):
    Noop.objects.bulk_create([Noop() for _ in range(size)])
    failure = Failure("RuntimeError", "no")
    outcomes = [
        stayed(row, ending=Ending.FAILED, failures=1, failure=failure) for row in claim(Noop)
    ]

    with statements() as sent:
        write(store_for("default"), Noop, outcomes, "worker")

    assert len(sent) <= 5

"""What a commit waits for on PostgreSQL: a claim's for nothing, every other one's for the disk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection, transaction

from django_fsmworker.store import store_for
from tests.app.models import Chain
from tests.database.rows import LEASE, claim, fence, moved, put

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def written() -> Iterator[None]:
    """Every write to the rows notes how its transaction will be committed."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE TABLE written (how text);
            CREATE FUNCTION note_how() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO written VALUES (current_setting('synchronous_commit'));
            RETURN NULL; END $$;
            CREATE TRIGGER note_how AFTER UPDATE ON tests_chain
                FOR EACH STATEMENT EXECUTE FUNCTION note_how();
            """
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE written; DROP FUNCTION note_how CASCADE")


def how() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM written RETURNING how")
        return [word for (word,) in cursor.fetchall()]


def test_a_claim_waits_for_nothing_and_the_rest_for_the_disk(written: None) -> None:
    store = store_for("default")
    Chain.objects.bulk_create(Chain() for _ in range(4))

    one, two, three, four = claim(Chain)
    assert how() == ["off"]

    store.renew(Chain, [fence(one)], LEASE)
    store.hand_back(Chain, [fence(two)])
    store.advance(Chain, [moved(three, "second")], LEASE)
    store.settle(Chain, [moved(four, "second")])
    assert how() == ["on"] * 4


def test_somebody_else_s_transaction_stays_as_it_was(written: None) -> None:
    Chain.objects.create()

    with transaction.atomic():
        assert len(claim(Chain)) == 1
        Chain.objects.update(logged=False)

    assert how() == ["on", "on"]


def test_a_claim_that_the_server_has_lost_is_fenced_off() -> None:
    """As after a crash: the row is as it was before, and somebody else has taken it since."""
    store, row = store_for("default"), Chain.objects.create()
    (lost,) = claim(Chain)
    put(row, state_lease=None, state_claim=None)

    (second,) = claim(Chain)

    assert store.settle(Chain, [moved(lost, "second")]) == set()
    assert store.renew(Chain, [fence(lost)], LEASE) == set()
    assert store.settle(Chain, [moved(second, "second")]) == {row.pk}

"""Tables of a kind that a claim, which goes by row id, cannot work on."""

from __future__ import annotations

import pytest
from django.db import connection

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.runner.preflight import refuse_tables
from django_fsmworker.store import store_for
from tests.app.models import Noop, TextKey

pytestmark = pytest.mark.django_db


def refusal(model):
    with pytest.raises(ConfigurationError) as refused:
        refuse_tables({model: store_for("default")})
    return str(refused.value)


def test_an_ordinary_table_is_not_refused():
    assert store_for("default").refusals(Noop) == []


@pytest.mark.postgresql
def test_tables_with_others_that_inherit_from_them():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE old_noop () INHERITS (tests_noop)")

    assert refusal(Noop) == (
        "The table of tests.Noop is partitioned or has other tables inherit from it, which "
        "cannot be claimed yet; exclude it with --exclude tests.Noop."
    )


@pytest.mark.sqlite
def test_a_table_without_row_ids_is_refused():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tests_textkey RENAME TO elsewhere")
        cursor.execute("CREATE TABLE tests_textkey (code text PRIMARY KEY) WITHOUT ROWID")

    assert refusal(TextKey) == (
        "The table of tests.TextKey is WITHOUT ROWID, which a claim goes by; make it an ordinary "
        "one, or exclude it with --exclude tests.TextKey."
    )


@pytest.mark.django_db(transaction=True)
def test_a_view_is_refused():
    """On PostgreSQL and MariaDB it can be updated, and yet has no row to lock."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tests_noop RENAME TO tests_noop_behind")
        cursor.execute("CREATE VIEW tests_noop AS SELECT * FROM tests_noop_behind")
    try:
        assert refusal(Noop) == (
            "The table of tests.Noop is a view or a foreign table, whose rows cannot be locked and "
            "claimed; run the model of the table behind it, and exclude this one with --exclude "
            "tests.Noop."
        )
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP VIEW tests_noop")
            cursor.execute("ALTER TABLE tests_noop_behind RENAME TO tests_noop")

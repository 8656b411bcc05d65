"""Tables of a kind that a claim, which goes by row id, cannot work on."""

from __future__ import annotations

import pytest
from django.db import connection

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.runner.preflight import refuse_tables
from django_fsmworker.store import store_for
from testapp.models import Noop, TextKey

pytestmark = pytest.mark.django_db


def refusal(model):
    with pytest.raises(ConfigurationError) as refused:
        refuse_tables({model: store_for("default")})
    return str(refused.value)


def test_ordinary_tables():
    assert store_for("default").refusals(Noop) == []


@pytest.mark.postgresql
def test_tables_with_others_that_inherit_from_them():
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE old_noop () INHERITS (testapp_noop)")

    assert refusal(Noop) == (
        "The table of testapp.Noop is partitioned or has other tables inherit from it, which "
        "cannot be claimed yet; exclude it with --exclude testapp.Noop."
    )


@pytest.mark.sqlite
def test_tables_without_row_ids():
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE testapp_textkey RENAME TO elsewhere")
        cursor.execute("CREATE TABLE testapp_textkey (code text PRIMARY KEY) WITHOUT ROWID")

    assert refusal(TextKey) == (
        "The table of testapp.TextKey is WITHOUT ROWID, which a claim goes by; make it an ordinary "
        "one, or exclude it with --exclude testapp.TextKey."
    )

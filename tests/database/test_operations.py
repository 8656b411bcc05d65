"""``AddStateIndexes``: whole indexes on a table that Django did not make."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, migrations
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import MigrationWriter
from django.test.utils import isolate_apps

from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.operations import AddStateIndexes
from tests.app.models.expiry import ExpiringStates

LABEL, MODULE = "testapp", "testapp.models"

pytestmark = pytest.mark.django_db(transaction=True)


def shape(**options: Any) -> Any:
    """A model that deletes rows, so that it has two indexes."""
    with isolate_apps(LABEL):

        class Shape(StatorModel):
            __module__ = MODULE
            state = StateField(ExpiringStates)
            Meta: Any = type("Meta", (), options)

    return Shape


def project(model: Any) -> ProjectState:
    state = ProjectState()
    state.add_model(ModelState.from_model(model))
    return state


@pytest.fixture(params=[True, False], ids=["managed", "unmanaged"])
def model(request):
    """Its table is there, made by somebody who knows of no index."""
    with connection.schema_editor() as editor:
        bare = shape()
        bare._meta.indexes = []
        editor.create_model(bare)
    yield shape(managed=request.param)
    with connection.schema_editor() as editor:
        editor.delete_model(bare)


@pytest.fixture
def operation():
    return AddStateIndexes("Shape")


def indexes() -> dict[str, list[str]]:
    """The table's indexes beside its primary key."""
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "testapp_shape")
    return {
        name: each["columns"]
        for name, each in found.items()
        if each["index"] and not each["primary_key"]
    }


def run(operation: Any, model: Any, backwards: bool = False) -> None:
    state = project(model)
    move = operation.database_backwards if backwards else operation.database_forwards
    with connection.schema_editor() as editor:
        move(LABEL, editor, state, state)


def wanted(model: Any) -> dict[str, list[str]]:
    return {each.name: list(each.fields) for each in model._meta.indexes}


class TestAddStateIndexes:
    @pytest.mark.mysql
    def test_makes_them_whole(self, model, operation):
        run(operation, model)

        assert indexes() == wanted(model)
        assert list(indexes().values()) == [
            ["state", "state_next"],
            ["state", "state_changed"],
        ]

    @pytest.mark.mysql
    def test_makes_what_is_missing(self, model, operation):
        due, expiry = model._meta.indexes
        with connection.schema_editor() as editor:
            editor.add_index(model, due)

        run(operation, model)
        run(operation, model)

        assert indexes() == wanted(model)

    @pytest.mark.mysql
    def test_backwards_leaves_a_table_of_djangos_alone(self, model, operation):
        run(operation, model)

        run(operation, model, backwards=True)

        assert indexes() == (wanted(model) if model._meta.managed else {})
        run(operation, model, backwards=True)

    @pytest.mark.mysql
    def test_django_has_made_them_for_its_own_tables(self, operation):
        """The other databases' partial indexes are whole ones here, without this operation."""
        whole = shape()
        with connection.schema_editor() as editor:
            editor.create_model(whole)
        try:
            assert indexes() == wanted(whole)
        finally:
            with connection.schema_editor() as editor:
                editor.delete_model(whole)

    @pytest.mark.sqlite
    @pytest.mark.postgresql
    def test_does_nothing_where_there_are_partial_ones(self, model, operation):
        run(operation, model)
        assert indexes() == {}
        run(operation, model, backwards=True)

    def test_changes_no_state(self, operation):
        before = project(shape())
        after = before.clone()

        operation.state_forwards(LABEL, after)

        assert after.models == before.models

    def test_it_can_be_written_in_a_migration(self, operation):
        migration = type("Migration", (migrations.Migration,), {"operations": [operation]})

        text = MigrationWriter(migration("0002", LABEL)).as_string()

        assert "import django_fsmworker.operations" in text
        assert "django_fsmworker.operations.AddStateIndexes(" in text
        assert "Shape" in text
        assert "States" not in text
        assert operation.describe() == (
            "Make the state indexes of Shape, where there are no partial ones"
        )
        assert operation.migration_name_fragment == "shape_state_indexes"

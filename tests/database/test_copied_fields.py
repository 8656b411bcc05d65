"""Only subclasses of ``StatorModel`` have a life: a field that is copied elsewhere is a column."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from django.apps import apps as installed
from django.db import connection, models
from django.test.utils import isolate_apps

from django_fsmworker.models import StateField, StateHistoryField, StatorModel
from django_fsmworker.models.discovery import declares_life, stator_models
from tests.app.models import BasicModel, Expiring, NoopStates, Stay, Traced

MODULE = "testapp.models"

pytestmark = pytest.mark.django_db(transaction=True)


def copied(source: Any, copying: Any) -> Any:
    """A model as a library of history makes it: with copies of another one's fields."""
    fields = {field.name: copying(field) for field in source._meta.local_fields}
    del fields["id"]
    for field in fields.values():
        # Such a library copies while models are loaded. Django 5.2 copies what a query has cached.
        vars(field).pop("cached_col", None)
    body = {"__module__": MODULE, **fields, "number": models.BigAutoField(primary_key=True)}
    with isolate_apps("testapp"):
        return type("Historical", (models.Model,), body)


WAYS = [copy.copy, copy.deepcopy, lambda field: field.clone()]


@pytest.mark.parametrize("copying", WAYS, ids=["copy", "deepcopy", "clone"])
@pytest.mark.parametrize(
    "source", [BasicModel, Expiring, Stay, Traced], ids=lambda model: model.__name__
)
class TestCopies:
    def test_are_plain_columns_without_graph_and_indexes(self, source: Any, copying: Any) -> None:
        historical = copied(source, copying)

        kinds = {type(field).__module__ for field in historical._meta.local_fields}
        assert {each.partition(".")[0] for each in kinds} == {"django"}
        assert historical._meta.indexes == []
        assert not hasattr(historical, "state_graph")
        assert not declares_life(historical)

    def test_hold_what_they_are_given(self, source: Any, copying: Any) -> None:
        historical = copied(source, copying)
        row = source.objects.create()
        with connection.schema_editor() as editor:
            editor.create_model(historical)
        try:
            values = {
                field.attname: getattr(row, field.attname)
                for field in source._meta.local_fields
                if not field.primary_key
            }
            entry = historical.objects.create(**values)
            entry.state, entry.state_failures = "a state of long ago", 7
            entry.save()

            stored = historical.objects.get()
            assert (stored.state, stored.state_failures) == ("a state of long ago", 7)
            assert stored.state_changed == row.state_changed
        finally:
            with connection.schema_editor() as editor:
                editor.delete_model(historical)


def test_the_model_itself_keeps_its_life() -> None:
    copied(BasicModel, copy.copy)

    assert isinstance(BasicModel._meta.get_field("state"), StateField)
    assert declares_life(BasicModel)
    assert BasicModel in stator_models()


def test_fields_of_an_abstract_class_live_where_a_stator_model_inherits_them() -> None:
    with isolate_apps("testapp"):

        class Stateful(models.Model):
            __module__ = MODULE
            state = StateField(NoopStates)
            state_history = StateHistoryField()

            class Meta:
                abstract = True

        class Living(Stateful, StatorModel):
            __module__ = MODULE

        class Archived(Stateful):
            __module__ = MODULE

    assert declares_life(Living)
    assert Living.state_graph is NoopStates
    assert {index.fields[0] for index in Living._meta.indexes} == {"state"}
    assert not declares_life(Archived)
    assert type(Archived._meta.get_field("state_history")) is models.JSONField


def test_every_model_with_a_life_is_a_stator_model() -> None:
    assert all(issubclass(model, StatorModel) for model in stator_models())
    assert installed.is_installed("django_fsmworker")

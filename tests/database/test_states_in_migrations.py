"""A state in a model's declarations is plain text in its migrations."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection, models
from django.db.migrations import operations
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.questioner import NonInteractiveMigrationQuestioner
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import MigrationWriter
from django.test.utils import isolate_apps

from django_fsmworker.models import StateField, StateHistoryField, StatorModel
from django_fsmworker.models.indexes import index_name
from django_fsmworker.operations import AddState
from testapp.models import Order as OrderModel
from testapp.models import OrderStates


def declared() -> Any:
    with isolate_apps("testapp"):

        class Named(StatorModel):
            __module__ = "testapp.models"
            state = StateField(OrderStates)
            before = models.CharField(max_length=50, default=OrderStates.new)
            later = models.CharField(max_length=50, db_default=OrderStates.paid)  # type: ignore[arg-type]
            other = models.ForeignKey(
                "self", models.CASCADE, limit_choices_to={"state": OrderStates.paid}
            )

            class Meta:
                constraints = (
                    models.CheckConstraint(
                        condition=models.Q(state=OrderStates.new)
                        | models.Q(state__in=[OrderStates.paid, OrderStates.failed]),
                        name="named_states",
                    ),
                    models.UniqueConstraint(
                        fields=["before"],
                        condition=models.Q(state=OrderStates.new),
                        name="named_once",
                    ),
                )
                indexes = (
                    models.Index(
                        fields=["before"],
                        condition=models.Q(state=OrderStates.failed),
                        name="named_failed",
                    ),
                )

    return Named


class TestDeclarations:
    def test_are_written_as_names(self) -> None:
        state = ModelState.from_model(declared())
        created = operations.CreateModel(state.name, list(state.fields.items()), state.options)

        written, imports = MigrationWriter.serialize(
            [*created.fields, created.options["constraints"], created.options["indexes"]]
        )

        assert "OrderStates" not in written
        assert not [each for each in imports if "testapp" in each or "fsmworker" in each]
        assert "('state', 'new')" in written
        assert "['paid', 'failed']" in written
        assert "limit_choices_to={'state': 'paid'}" in written

    def test_are_found_unchanged_afterwards(self) -> None:
        before, after = ProjectState(), ProjectState()
        model = ModelState.from_model(declared())
        written, _ = MigrationWriter.serialize(
            operations.CreateModel(
                model.name, [(name, field) for name, field in model.fields.items()], model.options
            ).options["constraints"]
        )
        names: dict[str, Any] = {"models": models}
        read = eval(written, {"django": __import__("django"), **names})
        after.add_model(model)
        same = model.clone()
        same.options = {**same.options, "constraints": read}
        before.add_model(same)

        questioner = NonInteractiveMigrationQuestioner(specified_apps={"testapp"})
        detector: Any = MigrationAutodetector(before, after, questioner)
        changes = detector._detect_changes()

        assert changes == {}

    def test_json_takes_the_name(self) -> None:
        assert json.dumps(str(OrderStates.new)) == '"new"'
        with pytest.raises(TypeError):
            json.dumps(OrderStates.new)


STATES = list(OrderStates.states)


def add_state(**options: Any) -> AddState:
    given = {"states": STATES, "initial": "new", "rest": "shipped", **options}
    return AddState("Shipping", **given)


class TestAddState:
    @pytest.fixture
    def before(self) -> Any:
        state = ProjectState()
        operations.CreateModel(
            "Shipping", [("id", ModelState.from_model(OrderModel).fields["id"])]
        ).state_forwards("testapp", state)
        return state

    def apply(self, operation: AddState, before: ProjectState) -> ProjectState:
        after = before.clone()
        operation.state_forwards("testapp", after)
        with connection.schema_editor() as editor:
            operation.database_forwards("testapp", editor, before, after)
        return after

    @pytest.mark.django_db(transaction=True)
    def test_old_rows_rest_and_new_ones_live(self, before: ProjectState) -> None:
        old = before.apps.get_model("testapp", "Shipping")
        with connection.schema_editor() as editor:
            editor.create_model(old)
        operation = add_state(history=True)
        try:
            old.objects.create()

            after = self.apply(operation, before)
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO testapp_shipping (id) VALUES (1000)")
            rows = after.apps.get_model("testapp", "Shipping").objects.order_by("pk")

            found = [(row.state, row.state_next is None, row.state_failures) for row in rows]
            assert found == [("shipped", True, 0), ("new", False, 0)]
            assert rows[0].state_history == []

            with connection.schema_editor() as editor:
                operation.database_backwards("testapp", editor, after, before)
            assert old.objects.count() == 2
            with connection.cursor() as cursor:
                columns = connection.introspection.get_table_description(cursor, "testapp_shipping")
            assert [column.name for column in columns] == ["id"]
        finally:
            with connection.schema_editor() as editor:
                editor.delete_model(old)

    @isolate_apps("testapp")
    @pytest.mark.parametrize("history", [False, True])
    def test_nothing_but_the_index_is_left_to_change(
        self, before: ProjectState, history: bool
    ) -> None:
        body: dict[str, Any] = {"state_history": StateHistoryField()} if history else {}
        model = type(
            "Shipping",
            (StatorModel,),
            {"__module__": "testapp.models", "state": StateField(OrderStates), **body},
        )
        after = ProjectState()
        after.add_model(ModelState.from_model(model))
        add_state(history=history).state_forwards("testapp", before)

        questioner = NonInteractiveMigrationQuestioner(specified_apps={"testapp"})
        detector: Any = MigrationAutodetector(before, after, questioner)
        changes = detector._detect_changes()

        left = [each for migration in changes["testapp"] for each in migration.operations]
        assert {type(each) for each in left} == {operations.AddIndex}
        assert index_name("testapp_shipping", "due") in {each.index.name for each in left}

    def test_can_be_written_to_a_file(self) -> None:
        written, imports = MigrationWriter.serialize(STATES)
        name, args, options = add_state(max_length=50).deconstruct()

        assert (name, args) == ("AddState", ["Shipping"])
        assert AddState(*args, **options).deconstruct() == (name, args, options)
        assert written
        assert not imports

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (
                {"rest": "kept"},
                f"AddState('Shipping'): 'kept' is not among states; name one of "
                f"{', '.join(STATES)}.",
            ),
            (
                {"rest": "new"},
                "AddState('Shipping'): rest is the initial state, in which every old row would "
                "have its check run; name a manual or terminal state.",
            ),
        ],
    )
    def test_refuses_what_would_hurt(self, options: dict[str, Any], sentence: str) -> None:
        with pytest.raises(ValueError) as caught:
            add_state(**options)

        assert str(caught.value) == sentence

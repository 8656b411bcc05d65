"""What migrations see of a model with a life: plain Django, complete, and only what changed."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, models
from django.db.migrations import operations
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import MigrationWriter
from django.test.utils import CaptureQueriesContext, isolate_apps

from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import StateField, StateHistoryField, StatorModel
from django_fsmworker.models.indexes import checked_states
from testapp.models import Order, OrderStates
from tests.app.models import Delivery

LABEL = "testapp"
MODULE = "testapp.models"  # Where the shapes below pretend to be declared: no Meta needed.


class LifeStates(StateGraph):
    new = State()
    done = State(delete_after=60)

    new.transitions_to(done)

    @classmethod
    def check_new(cls, row):
        return cls.done


class RenamedStates(StateGraph):
    new = State()
    finished = State(delete_after=60)

    new.transitions_to(finished)

    @classmethod
    def check_new(cls, row):
        return cls.finished


class RelabelledStates(StateGraph):
    new = State(label="Fresh")
    done = State(delete_after=60, label="Over")

    new.transitions_to(done)

    @classmethod
    def check_new(cls, row):
        return cls.done


class ManualStates(StateGraph):
    open = State(manual=True)
    waiting = State(manual=True)
    closed = State()

    open.transitions_to(waiting)
    waiting.transitions_to(closed)


class RenamedManualStates(StateGraph):
    open = State(manual=True)
    on_hold = State(manual=True)
    closed = State()

    open.transitions_to(on_hold)
    on_hold.transitions_to(closed)


class GuardedStates(StateGraph):
    new = State()
    late = State()
    done = State(delete_after=60)

    new.transitions_to(done, when=models.Q(state_failures=0))
    new.timeout_to(late, 60)
    late.transitions_to(done, when=models.Q(state_failures=0))


class RenamedGuardedStates(StateGraph):
    new = State()
    overdue = State()
    done = State(delete_after=60)

    new.transitions_to(done, when=models.Q(state_failures=0))
    new.timeout_to(overdue, 60)
    overdue.transitions_to(done, when=models.Q(state_failures=0))


def project(*shapes: Any) -> ProjectState:
    state = ProjectState()
    for model in shapes:
        state.add_model(ModelState.from_model(model))
    return state


def detected(before: ProjectState, after: ProjectState) -> dict[str, list[Any]]:
    detector: Any = MigrationAutodetector(before, after)
    found: dict[str, list[Any]] = detector._detect_changes()
    return found


def changes(before: ProjectState, after: ProjectState) -> list[Any]:
    found = detected(before, after)
    return [operation for each in found.get(LABEL, []) for operation in each.operations]


def written_and_read(state: ProjectState) -> ProjectState:
    """The state that the migrations written for ``state`` build when they are read again."""
    built = ProjectState()
    migrations = detected(ProjectState(), state)[LABEL]
    for migration in migrations:
        source = MigrationWriter(migration).as_string()
        assert "fsmworker" not in source.replace("# Generated", "")
        assert "LifeStates" not in source
        namespace: dict[str, Any] = {}
        exec(source, namespace)
        namespace["Migration"]("0001_initial", LABEL).mutate_state(built, preserve=False)
    return built


def plain() -> list[Any]:
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(LifeStates)

    return [Shape]


def own_meta() -> list[Any]:
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(LifeStates)

        class Meta:
            ordering = ("pk",)
            db_table = "another_table"

    return [Shape]


def own_indexes() -> list[Any]:
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(LifeStates)
        number = models.IntegerField()

        class Meta:
            indexes = (models.Index(fields=["number"], name="own_number"),)

    return [Shape]


def inherited_meta() -> list[Any]:
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(LifeStates)

        class Meta(StatorModel.Meta):
            verbose_name = "shape"

    return [Shape]


def two_abstract_parents() -> list[Any]:
    class Stamped(models.Model):
        __module__ = MODULE
        stamped = models.DateTimeField(null=True)

        class Meta:
            abstract = True
            indexes = (models.Index(fields=["stamped"], name="%(class)s_stamped"),)

    class Shape(Stamped, StatorModel):
        __module__ = MODULE
        state = StateField(LifeStates)

    return [Shape]


def abstract_middle() -> list[Any]:
    class Middle(StatorModel):
        __module__ = MODULE
        state = StateField(LifeStates)

        class Meta:
            abstract = True

    class Shape(Middle):
        __module__ = MODULE
        number = models.IntegerField()

    class Other(Middle):
        __module__ = MODULE

        class Meta:
            indexes = (models.Index(fields=["state_changed"], name="own_changed"),)

    return [Shape, Other]


def long_name() -> list[Any]:
    class ShapeWithANameThatIsLongerThanAnyIndexMayBeOnOracle(StatorModel):
        __module__ = MODULE
        state = StateField(LifeStates)

    class ShapeWithANameThatIsLongerThanAnyIndexMayBeOnDB2(StatorModel):
        __module__ = MODULE
        state = StateField(LifeStates)

    return [
        ShapeWithANameThatIsLongerThanAnyIndexMayBeOnOracle,
        ShapeWithANameThatIsLongerThanAnyIndexMayBeOnDB2,
    ]


def proxy() -> list[Any]:
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(LifeStates)

    class Proxy(Shape):
        __module__ = MODULE

        class Meta:
            proxy = True

    return [Shape, Proxy]


def with_history() -> list[Any]:
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(LifeStates, max_length=20)
        state_history = StateHistoryField()

    return [Shape]


def swept() -> list[Any]:
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(GuardedStates)

    return [Shape]


def swept_with_a_key_of_its_own() -> list[Any]:
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(GuardedStates)
        code = models.CharField(max_length=20, primary_key=True)

    class Related(StatorModel):
        __module__ = MODULE
        state = StateField(GuardedStates)
        shape = models.OneToOneField(Shape, models.CASCADE, primary_key=True)

        class Meta:
            indexes = (models.Index(fields=["state_changed"], name="own_changed"),)

    class Composite(StatorModel):
        __module__ = MODULE
        state = StateField(GuardedStates)
        pk = models.CompositePrimaryKey("tenant", "code")
        tenant = models.IntegerField()
        code = models.CharField(max_length=20)

    return [Shape, Related, Composite]


def swept_abstract_middle() -> list[Any]:
    class Middle(StatorModel):
        __module__ = MODULE
        state = StateField(GuardedStates)

        class Meta:
            abstract = True

    class Shape(Middle):
        __module__ = MODULE

    class Proxy(Shape):
        __module__ = MODULE

        class Meta:
            proxy = True

    class Other(Middle):
        __module__ = MODULE
        code = models.CharField(max_length=20, primary_key=True)

    return [Shape, Proxy, Other]


SHAPES = [
    plain,
    own_meta,
    own_indexes,
    inherited_meta,
    two_abstract_parents,
    abstract_middle,
    long_name,
    proxy,
    with_history,
    swept,
    swept_with_a_key_of_its_own,
    swept_abstract_middle,
]


@pytest.fixture(params=SHAPES, ids=lambda shape: shape.__name__)
def shape(request):
    with isolate_apps(LABEL):
        yield request.param()


class TestShapes:
    def test_makemigrations_is_clean_after_its_own_migration(self, shape):
        built = written_and_read(project(*shape))

        assert changes(built, project(*shape)) == []

    def test_every_table_has_its_indexes_once(self, shape):
        tables = [model for model in shape if not model._meta.proxy]

        for model in tables:
            purposes = [index.name.rsplit("_", 1)[-1] for index in model._meta.indexes]
            assert purposes.count("due") == purposes.count("expiry") == 1
            assert purposes.count("swept") == len(model.state_graph.swept_states)

    def test_index_names_are_short_and_differ(self, shape):
        names = [
            index.name
            for model in shape
            if not model._meta.proxy
            for index in model._meta.indexes
            if index.name.endswith(("_due", "_stranded", "_expiry", "_swept"))
        ]

        assert len(set(names)) == len(names)
        assert max(map(len, names)) <= 30
        assert all(name[0].isalpha() for name in names)

    def test_system_checks_are_clean(self, shape):
        assert [each for model in shape for each in model.check()] == []

    @pytest.mark.django_db(transaction=True)
    def test_tables_can_be_made_and_claimed_from(self, shape):
        tables = [each for each in shape if not each._meta.proxy]
        for model in tables:
            with connection.schema_editor() as editor:
                editor.create_model(model)

            found = connection.introspection.get_constraints(
                connection.cursor(), model._meta.db_table
            )

            due = next(index for name, index in found.items() if name.endswith("_due"))
            assert due["columns"] == ["state", "state_next"]

        for model in reversed(tables):  # one may point to another that came before
            with connection.schema_editor() as editor:
                editor.delete_model(model)


class TestIndexes:
    def test_due_rows_by_state_and_nothing_that_a_claim_writes(self):
        indexed = {name for index in Order._meta.indexes for name in index.fields}

        assert indexed == {"state", "state_next", "state_changed"}

    def test_due_and_expiry_indexes_are_partial(self):
        due, stranded, expiry = Order._meta.indexes

        assert due.fields == ["state", "state_next"]
        assert due.condition == models.Q(state_next__isnull=False)
        assert stranded.fields == ["state"]
        assert stranded.condition == models.Q(
            state__in=checked_states(Order.state_graph), state_next__isnull=True
        )
        assert expiry.fields == ["state", "state_changed"]
        assert expiry.condition == models.Q(state__in=["shipped"])

    def test_swept_states_have_an_index_each_on_the_key_alone(self):
        _, _, held, signing = Delivery._meta.indexes

        assert held.fields == signing.fields == ["id"]
        assert held.condition == models.Q(state="held")
        assert signing.condition == models.Q(state="signing")

    @isolate_apps(LABEL)
    def test_the_key_of_a_swept_index_is_the_model_s_own(self):
        fields = {
            tuple(index.fields)
            for model in swept_with_a_key_of_its_own()
            for index in model._meta.indexes
            if index.name.endswith("_swept")
        }

        assert fields == {("code",), ("shape",), ("tenant", "code")}

    @isolate_apps(LABEL)
    def test_no_expiry_index_without_delete_after(self):
        class Shape(StatorModel):
            __module__ = MODULE
            state = StateField(ManualStates)

        assert [index.fields for index in Shape._meta.indexes] == [["state", "state_next"]]


class TestDeconstruction:
    def test_state_field_is_a_plain_char_field(self):
        name, path, args, kwargs = Order._meta.get_field("state").deconstruct()

        assert (name, path, args) == ("state", "django.db.models.CharField", [])
        assert kwargs == {
            "choices": [(state, state) for state in ("new", "paid", "shipped", "failed")],
            "db_default": "new",
            "default": "new",
            "editable": False,
            "max_length": 100,
        }
        assert type(kwargs["default"]) is str

    def test_clone_is_a_plain_char_field(self):
        clone = Order._meta.get_field("state").clone()

        assert type(clone) is models.CharField

    @pytest.mark.parametrize(
        ("name", "plain"),
        [
            ("state_changed", models.DateTimeField),
            ("state_next", models.DateTimeField),
            ("state_lease", models.DateTimeField),
            ("state_claim", models.BigIntegerField),
            ("state_failures", models.SmallIntegerField),
        ],
    )
    def test_the_other_columns_are_plain_too(self, name, plain):
        field: Any = Order._meta.get_field(name)

        _, path, _, _ = field.deconstruct()

        assert path == f"django.db.models.{plain.__name__}"
        assert type(field.clone()) is plain

    def test_graph_may_be_none(self):
        field = StateField(graph=None, choices=[("new", "new")], default="new")

        _, path, _, kwargs = field.deconstruct()

        assert path == "django.db.models.CharField"
        assert kwargs == {"choices": [("new", "new")], "default": "new", "max_length": 100}

    def test_types_of_the_columns(self):
        kinds = {
            each.attname: (each.get_internal_type(), each.null)
            for each in Order._meta.concrete_fields
            if each.attname.startswith("state")
        }

        assert kinds == {
            "state": ("CharField", False),
            "state_changed": ("DateTimeField", False),
            "state_next": ("DateTimeField", True),
            "state_lease": ("DateTimeField", True),
            "state_claim": ("BigIntegerField", True),
            "state_failures": ("SmallIntegerField", False),
        }


def shape_of(graph: Any) -> Any:
    with isolate_apps(LABEL):

        class Shape(StatorModel):
            __module__ = MODULE
            state = StateField(graph)

        return Shape


class TestChangingTheGraph:
    def test_a_renamed_state_is_seen(self):
        found = changes(project(shape_of(ManualStates)), project(shape_of(RenamedManualStates)))

        assert [type(each) for each in found] == [operations.AlterField]
        assert found[0].name == "state"
        assert [name for name, _ in found[0].field.choices] == ["open", "on_hold", "closed"]

    @pytest.mark.django_db(transaction=True)
    def test_renaming_a_state_sends_no_sql(self):
        before, after = shape_of(ManualStates), shape_of(RenamedManualStates)
        old, new = project(before), project(after)
        with connection.schema_editor() as editor:
            editor.create_model(before)
        (operation,) = changes(old, new)

        with CaptureQueriesContext(connection) as queries:
            with connection.schema_editor() as editor:
                operation.database_forwards(LABEL, editor, old, new)

        sent = [query["sql"] for query in queries if "Shape" in query["sql"]]
        assert sent == []
        with connection.schema_editor() as editor:
            editor.delete_model(before)

    def test_a_renamed_deletion_state_renews_its_index(self):
        found = changes(project(shape_of(LifeStates)), project(shape_of(RenamedStates)))

        assert sorted(type(each).__name__ for each in found) == [
            "AddIndex",
            "AlterField",
            "RemoveIndex",
        ]

    def test_a_renamed_swept_state_renews_its_index_only(self):
        found = changes(project(shape_of(GuardedStates)), project(shape_of(RenamedGuardedStates)))

        assert sorted(type(each).__name__ for each in found) == [
            "AddIndex",
            "AlterField",
            "RemoveIndex",
        ]

    def test_labels_are_not_frozen(self):
        found = changes(project(shape_of(LifeStates)), project(shape_of(RelabelledStates)))

        assert found == []

    def test_the_name_of_the_graph_is_not_frozen(self):
        same = type("SameStates", (ManualStates,), {})

        assert changes(project(shape_of(ManualStates)), project(shape_of(same))) == []


class TestHistoricalModels:
    @pytest.fixture
    def historical(self):
        loader = MigrationLoader(None)
        return loader.project_state(("testapp", "0001_initial")).apps.get_model("testapp", "Order")

    def test_state_is_a_plain_char_field_with_its_frozen_choices(self, historical):
        field = historical._meta.get_field("state")

        assert type(field) is models.CharField
        assert field.choices == [(name, name) for name in ("new", "paid", "shipped", "failed")]

    @pytest.mark.django_db
    def test_states_can_be_used_in_filters(self, historical):
        Order.objects.create(state="paid")

        assert historical.objects.filter(state=OrderStates.paid).count() == 1
        assert historical.objects.filter(state__in=OrderStates.terminal_states).count() == 0

    @pytest.mark.django_db
    def test_rows_made_by_a_data_migration_are_due(self, historical):
        pk = historical.objects.create(payment_id="p1").pk

        row = Order.objects.get(pk=pk)

        assert (row.state, row.state_failures, row.state_claim) == ("new", 0, None)
        assert Order.objects.due().filter(pk=pk).exists()


class TestTheProject:
    @pytest.mark.django_db
    def test_makemigrations_check_is_clean(self, capsys):
        call_command("makemigrations", check=True, dry_run=True)

        assert "No changes detected" in capsys.readouterr().out


@pytest.mark.django_db(transaction=True)
class TestAnExistingTable:
    """Adding the base to a table that has rows makes none of them due, in two steps."""

    def test_in_two_steps_old_rows_rest_and_new_ones_are_due(self):
        before, after = self.tables()
        state = project(before)
        with connection.schema_editor() as editor:
            editor.create_model(before)
        try:
            before._base_manager.create(number=1)
            for operation in self.steps(after):
                state = applied(operation, state)
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO testapp_shape (number) VALUES (2)")

            old, fresh = after._base_manager.order_by("number")
            assert (old.state, old.state_next) == ("new", None)
            assert (fresh.state, fresh.state_next) == ("new", fresh.state_changed)
            assert changes(state, project(after)) == []
        finally:
            with connection.schema_editor() as editor:
                editor.delete_model(before)

    @staticmethod
    def tables() -> tuple[Any, Any]:
        with isolate_apps(LABEL):

            class Shape(models.Model):
                __module__ = MODULE
                number = models.IntegerField()

        before = Shape
        with isolate_apps(LABEL):

            class Shape(StatorModel):  # type: ignore[no-redef]
                __module__ = MODULE
                number = models.IntegerField()
                state = StateField(LifeStates)

        return before, Shape

    @staticmethod
    def steps(after: Any) -> list[Any]:
        """First a ``state_next`` without a default, which stays NULL; then what is generated."""
        empty = models.DateTimeField(null=True, blank=True, editable=False)
        generated = [
            operations.AddField("shape", field.name, field.clone())
            for field in after._meta.local_fields
            if field.name.startswith("state") and field.name != "state_next"
        ]
        column = after._meta.get_field("state_next").clone()
        return [
            operations.AddField("shape", "state_next", empty),
            *generated,
            operations.AlterField("shape", "state_next", column),
            *(operations.AddIndex("shape", index.clone()) for index in after._meta.indexes),
        ]


def applied(operation: Any, before: ProjectState) -> ProjectState:
    after = before.clone()
    operation.state_forwards(LABEL, after)
    with connection.schema_editor() as editor:
        operation.database_forwards(LABEL, editor, before, after)
    return after


def test_executor_finds_nothing_left_to_do(db):
    executor = MigrationExecutor(connection)

    assert executor.migration_plan(executor.loader.graph.leaf_nodes()) == []

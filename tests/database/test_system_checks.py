"""Every system check by its id: the exact sentence and hint, and silence where all is well."""

from __future__ import annotations

import sqlite3

import pytest
from django.core import checks as django_checks
from django.core.checks import Error, Warning
from django.db import models
from django.db.models.functions import RowNumber
from django.db.models.lookups import GreaterThan
from django.test.utils import isolate_apps

from django_fsmworker import checks
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import StateField, StatorModel
from tests.app.models import BasicModel, NoopStates

MODULE = "testapp.models"


class WordyStates(StateGraph):
    new = State(manual=True)
    a_state_with_a_long_name = State()

    new.transitions_to(a_state_with_a_long_name)


class AlikeStates(StateGraph):
    cafe = State(manual=True)
    Café = State(manual=True)
    closed = State()

    cafe.transitions_to(Café)
    Café.transitions_to(closed)


@pytest.fixture
def apps(monkeypatch):
    """Only the models that the test declares."""
    with isolate_apps("testapp") as isolated:
        monkeypatch.setattr("django_fsmworker.checks.models.apps", isolated)
        yield isolated


class Wrapper:
    """As much of a connection as the checks look at."""

    alias = "default"

    def __init__(self, vendor, **options):
        self.vendor = vendor
        self.settings_dict = {"OPTIONS": options}


@pytest.fixture
def databases(monkeypatch):
    """Instead of the configured databases, those in this dictionary; all models go to the first."""
    known: dict[str, Wrapper] = {}

    class Router:
        @staticmethod
        def db_for_write(model):
            return next(iter(known))

        @staticmethod
        def allow_migrate_model(alias, model):
            return True

    monkeypatch.setattr("django_fsmworker.checks.databases.connections", known)
    monkeypatch.setattr("django_fsmworker.checks.databases.router", Router)
    return known


@pytest.mark.django_db(databases=["default", "other"])
def test_the_project_is_clean():
    found = [each for each in django_checks.run_checks() if "fsmworker" in str(each.id)]

    assert found == []


class TestModels:
    def test_all_is_well(self, apps):
        class Shape(StatorModel):
            __module__ = MODULE
            state = StateField(NoopStates)

        class Proxy(Shape):
            __module__ = MODULE

            class Meta:
                proxy = True

        assert checks.check_models(None) == []

    def test_e001_no_state_field(self, apps):
        class Shape(StatorModel):
            __module__ = MODULE

        assert checks.check_models(None) == [
            Error(
                "testapp.Shape has no state field.",
                hint="Declare 'state = StateField(YourGraph)' on it.",
                obj=Shape,
                id="fsmworker.E001",
            )
        ]

    def test_e002_another_name(self, apps):
        class Shape(StatorModel):
            __module__ = MODULE
            life = StateField(NoopStates)

        assert checks.check_models(None) == [
            Error(
                "The state field of testapp.Shape has to be a single one named 'state'.",
                hint="Name it 'state'; a row has one life.",
                obj=Shape,
                id="fsmworker.E002",
            )
        ]

    def test_e002_two_of_them(self, apps):
        class Shape(StatorModel):
            __module__ = MODULE
            state = StateField(NoopStates)
            second = StateField(NoopStates)

        assert [each.id for each in checks.check_models(None)] == ["fsmworker.E002"]

    def test_e003_no_graph(self, apps):
        class Shape(StatorModel):
            __module__ = MODULE
            state = StateField()

        assert checks.check_models(None) == [
            Error(
                "testapp.Shape.state has no graph.",
                hint="Declare 'state = StateField(YourGraph)'.",
                obj=Shape,
                id="fsmworker.E003",
            )
        ]

    def test_children_of_a_table(self, apps):
        class Parent(StatorModel):
            __module__ = MODULE
            state = StateField(NoopStates)

        class Child(Parent):
            __module__ = MODULE
            number = models.IntegerField()

        class Plain(models.Model):
            __module__ = MODULE

        class Declaring(StatorModel, Plain):
            __module__ = MODULE
            state = StateField(NoopStates)

        assert checks.check_models(None) == []

    def test_a_child_inherits_what_is_wrong_and_it_is_said_once(self, apps):
        class Parent(StatorModel):
            __module__ = MODULE
            state = StateField(WordyStates, max_length=20)

        class Child(Parent):
            __module__ = MODULE

        assert [each.obj for each in checks.check_models(None)] == [Parent]

    def test_e004_a_life_in_two_tables(self, apps):
        class Parent(StatorModel):
            __module__ = MODULE

        class Child(Parent):
            __module__ = MODULE
            state = StateField(NoopStates)

        (_, found) = checks.check_models(None)

        assert found == Error(
            "testapp.Child has the state in its own table, but state_changed in that of "
            "testapp.Parent.",
            hint="Make the parent abstract, or declare 'state = StateField(YourGraph)' on it.",
            obj=Child,
            id="fsmworker.E004",
        )

    def test_e005_a_key_that_no_list_tells_apart(self, apps):
        class Shape(StatorModel):
            __module__ = MODULE
            digest = models.BinaryField(primary_key=True)
            state = StateField(NoopStates)

        assert checks.check_models(None) == [
            Error(
                "The primary key of testapp.Shape has a BinaryField, by which a runner cannot "
                "find a row again.",
                hint="Give it another primary key, and a UniqueConstraint on what is now the key.",
                obj=Shape,
                id="fsmworker.E005",
            )
        ]

    def test_e005_as_a_part_and_through_a_relation(self, apps):
        class Shape(StatorModel):
            __module__ = MODULE
            digest = models.BinaryField(primary_key=True)
            state = StateField(NoopStates)

        class Part(StatorModel):
            __module__ = MODULE
            pk = models.CompositePrimaryKey("number", "data")
            number = models.IntegerField()
            data = models.JSONField()
            state = StateField(NoopStates)

        class Related(StatorModel):
            __module__ = MODULE
            shape = models.OneToOneField(Shape, models.CASCADE, primary_key=True)
            state = StateField(NoopStates)

        assert {(each.obj, each.id) for each in checks.check_models(None)} == {
            (model, "fsmworker.E005") for model in (Shape, Part, Related)
        }

    def test_a_composite_key_is_accepted(self, apps):
        class Shape(StatorModel):
            __module__ = MODULE
            pk = models.CompositePrimaryKey("tenant", "number")
            tenant = models.IntegerField()
            number = models.IntegerField()
            state = StateField(NoopStates)

        assert checks.check_models(None) == []

    def test_e006_long_name(self, apps):
        class Shape(StatorModel):
            __module__ = MODULE
            state = StateField(WordyStates, max_length=20)

        assert checks.check_models(None) == [
            Error(
                "The state 'a_state_with_a_long_name' of testapp.Shape is longer than "
                "max_length=20.",
                hint="Shorten it, or declare StateField(..., max_length=24).",
                obj=Shape,
                id="fsmworker.E006",
            )
        ]


class TestGuards:
    @staticmethod
    def shape(when):
        class GuardedStates(StateGraph):
            new = State()
            done = State()
            new.transitions_to(done, when=when)

        class Shape(StatorModel):
            __module__ = MODULE
            state = StateField(GuardedStates)
            number = models.IntegerField()

        return Shape

    @pytest.mark.parametrize(
        ("when", "fault"),
        [
            (
                models.Q(paid=True),
                "Cannot resolve keyword 'paid' into field. Choices are: id, number, state, "
                "state_changed, state_claim, state_failures, state_lease, state_next",
            ),
            (models.Q(number="many"), "Field 'number' expected a number but got 'many'."),
            (
                GreaterThan(models.Count("pk"), 5),
                "It looks at many rows together, by an aggregate or a window.",
            ),
            (
                GreaterThan(models.Window(RowNumber()), 5),
                "It looks at many rows together, by an aggregate or a window.",
            ),
        ],
    )
    def test_e011_a_condition_that_cannot_be_asked(self, apps, when, fault):
        shape = self.shape(when)

        assert checks.check_models(None) == [
            Error(
                f"The guard from <State GuardedStates.new> to done cannot be asked about rows of "
                f"testapp.Shape: {fault}",
                hint="Give when= a condition that filter() of the model takes, without aggregates; "
                "count in a Subquery.",
                obj=shape,
                id="fsmworker.E011",
            )
        ]

    @pytest.mark.parametrize("when", [models.Q(number=5), models.Q(), models.Q(pk__in=[])])
    def test_e011_all_is_well(self, apps, when):
        self.shape(when)

        assert checks.check_models(None) == []


class TestSettings:
    def test_all_is_well(self):
        assert checks.check_settings(None) == []

    def test_e007_use_tz(self, settings):
        settings.USE_TZ = False

        assert checks.check_settings(None) == [
            Error(
                "USE_TZ is False, so due times would be ambiguous.",
                hint="Set USE_TZ = True.",
                id="fsmworker.E007",
            )
        ]

    def test_e008_a_wrong_setting(self, settings):
        settings.FSMWORKER = {"CONCURRENCY": 0}

        assert checks.check_settings(None) == [
            Error(
                'settings.FSMWORKER["CONCURRENCY"] is 0; it has to be a whole number above 0.',
                hint="Correct the setting.",
                id="fsmworker.E008",
            )
        ]


class TestDatabases:
    def test_all_is_well(self):
        assert checks.check_databases(None) == []

    def test_e009_another_vendor(self, databases):
        databases["default"] = Wrapper("oracle")

        assert checks.check_databases(None) == [
            Error(
                "The database 'default' is oracle; rows with a state graph can be run on "
                "PostgreSQL, MariaDB, MySQL and SQLite.",
                hint="Route these models to such a database.",
                id="fsmworker.E009",
            )
        ]

    def test_mysql_as_django_configures_it(self, databases):
        databases["default"] = Wrapper("mysql")

        assert checks.check_databases(None) == []

    @pytest.mark.parametrize("vendor", ["mysql", "sqlite"])
    def test_e013_local_times(self, databases, vendor):
        right = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": WAL}
        databases["default"] = Wrapper(vendor, **(right if vendor == "sqlite" else {}))
        databases["default"].settings_dict["TIME_ZONE"] = "Europe/Berlin"

        assert checks.check_databases(None) == [
            Error(
                "The database 'default' has the TIME_ZONE 'Europe/Berlin', so its columns hold "
                "local times, which are ambiguous for an hour a year.",
                hint="Take TIME_ZONE out of DATABASES['default'].",
                id="fsmworker.E013",
            )
        ]

    def test_e014_states_that_a_collation_takes_for_equal(self, databases, monkeypatch):
        databases["default"] = Wrapper("mysql")
        with isolate_apps("testapp"):

            class Shape(StatorModel):
                __module__ = MODULE
                state = StateField(AlikeStates)

        monkeypatch.setattr("django_fsmworker.checks.databases.stator_models", lambda: [Shape])

        assert checks.check_databases(None) == [
            Error(
                "MariaDB and MySQL take the states cafe and Café of testapp.Shape for the same "
                "one.",
                hint="Give them names that differ by more than case and accents.",
                obj=Shape,
                id="fsmworker.E014",
            )
        ]

    def test_e010_old_sqlite(self, databases, monkeypatch):
        databases["default"] = Wrapper(
            "sqlite", transaction_mode="IMMEDIATE", timeout=20, init_command=WAL
        )
        monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
        monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")

        assert checks.check_databases(None) == [
            Error(
                "SQLite 3.34.1 is too old: 3.38 is needed.",
                hint="Use a Python built with a newer SQLite, or PostgreSQL.",
                id="fsmworker.E010",
            )
        ]

    def test_w001_sqlite_options(self, databases):
        databases["default"] = Wrapper("sqlite")

        assert checks.check_databases(None) == [
            Warning(
                "The SQLite database 'default' lacks options that several threads need: "
                "transaction_mode, timeout, init_command.",
                hint="Set DATABASES['default']['OPTIONS'] = {'transaction_mode': 'IMMEDIATE', "
                "'timeout': 20, 'init_command': 'PRAGMA journal_mode=WAL; PRAGMA "
                "synchronous=NORMAL'}.",
                id="fsmworker.W001",
            )
        ]

    @pytest.mark.parametrize(
        ("missing", "options"),
        [
            ("transaction_mode", {"transaction_mode": "DEFERRED"}),
            ("timeout", {"timeout": 5}),
            ("init_command", {"init_command": "PRAGMA synchronous=NORMAL"}),
        ],
    )
    def test_w001_names_what_is_missing(self, databases, missing, options):
        right = {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": WAL}
        databases["default"] = Wrapper("sqlite", **(right | options))

        (found,) = checks.check_databases(None)

        assert found.msg.endswith(f"need: {missing}.")

    @pytest.mark.parametrize("spelling", ["PRAGMA journal_mode = wal;", "pragma JOURNAL_MODE=WAL"])
    def test_w001_other_spellings(self, databases, spelling):
        databases["default"] = Wrapper(
            "sqlite", transaction_mode="immediate", timeout=10.0, init_command=spelling
        )

        assert checks.check_databases(None) == []

    @pytest.mark.parametrize(
        ("pool", "held"), [(True, 4), ({"min_size": 2}, 2), ({"max_size": 13}, 13)]
    )
    def test_w002_small_pool(self, databases, pool, held):
        databases["default"] = Wrapper("postgresql", pool=pool)

        assert checks.check_databases(None) == [
            Warning(
                f"The connection pool of 'default' holds {held} connections; the checks of a "
                f"runner use up to 14.",
                hint="Set DATABASES['default']['OPTIONS']['pool'] = {'max_size': 14}.",
                id="fsmworker.W002",
            )
        ]

    @pytest.mark.parametrize("router", ["tests.routers.ByModel", "tests.routers.Replica"])
    def test_e012_the_records_have_a_place(self, settings, router):
        settings.DATABASE_ROUTERS = [router]

        assert checks.check_databases(None) == []

    def test_e012_a_router_keeps_the_records_out(self, settings):
        settings.DATABASE_ROUTERS = ["tests.routers.Strict", "tests.routers.ByModel"]

        assert checks.check_databases(None) == [
            Error(
                "Rows of tests.RoutedKind are written to the database 'other', but a router "
                "keeps django_fsmworker.Bucket, django_fsmworker.FailureRecord, "
                "django_fsmworker.Pause, django_fsmworker.Permit, django_fsmworker.StatorLog, "
                "django_fsmworker.TransitionRecord, django_fsmworker.Worker from it.",
                hint="Let its allow_migrate() accept the app 'django_fsmworker' in 'other', and "
                "run 'manage.py migrate --database other'.",
                id="fsmworker.E012",
            )
        ]

    @pytest.mark.parametrize("pool", [False, None, {"max_size": 14}, {"min_size": 14}])
    def test_w002_large_enough(self, databases, pool):
        databases["default"] = Wrapper("postgresql", pool=pool)

        assert checks.check_databases(None) == []

    def test_w002_without_async_checks_a_runner_needs_fewer(self, databases, monkeypatch):
        monkeypatch.setattr("django_fsmworker.checks.databases.stator_models", lambda: [BasicModel])
        databases["default"] = Wrapper("postgresql", pool={"max_size": 10})

        assert checks.check_databases(None) == []

    @pytest.mark.parametrize("graph", ["checked", "swept"])
    def test_w002_guards_are_asked_beside_the_pool(self, databases, monkeypatch, graph):
        class CheckedStates(StateGraph):
            new = State()
            done = State()
            new.transitions_to(done, when=models.Q())

            @classmethod
            def check_new(cls, row):
                return None

        class SweptStates(StateGraph):
            new = State()
            done = State()
            new.transitions_to(done, when=models.Q())

        graphs = {"checked": CheckedStates, "swept": SweptStates}
        model = type("Model", (), {"state_graph": graphs[graph]})
        monkeypatch.setattr("django_fsmworker.checks.databases.stator_models", lambda: [model])

        databases["default"] = Wrapper("postgresql", pool={"max_size": 10})

        assert checks.check_databases(None) == []

    def test_w002_when_the_settings_are_wrong_another_check_says_so(self, databases, settings):
        settings.FSMWORKER = {"CONCURRENCY": 0}
        databases["default"] = Wrapper("postgresql", pool=True)

        assert checks.check_databases(None) == []


WAL = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"


class TestAtomicStates:
    @pytest.mark.sqlite
    def test_w003_an_atomic_check_longer_than_a_lease(self, settings):
        settings.FSMWORKER = {"DEADLINE": 45, "LEASE": 30}

        every = [each for each in checks.check_databases(None) if each.id == "fsmworker.W003"]
        found = [each for each in every if "TroubleStates" in each.msg]

        assert [each.msg for each in found] == [
            "The atomic check of <State TroubleStates.strict> may keep SQLite's only write lock "
            "for 45 s, but a lease lasts 30 s."
        ]
        assert found[0].hint == "Give the state a deadline shorter than the lease."


class TestEvents:
    """What the conditions of events ask of the model, and the forms that they name."""

    @staticmethod
    def shape(**options):
        class EventStates(StateGraph):
            new = State(manual=True)
            done = State()
            new.on("go", to=done, **options)

        class Shape(StatorModel):
            __module__ = MODULE
            state = StateField(EventStates)

        return Shape

    def test_e015_a_condition_that_cannot_be_asked(self, apps):
        shape = self.shape(when=models.Q(paid=True))

        assert checks.check_models(None) == [
            Error(
                "The condition of on('go') of <State EventStates.new> cannot be asked about rows of"
                " testapp.Shape: Cannot resolve keyword 'paid' into field. Choices are: id, state,"
                " state_changed, state_claim, state_failures, state_lease, state_next",
                hint="Give when= a condition that filter() of the model takes, without aggregates; "
                "count in a Subquery.",
                obj=shape,
                id="fsmworker.E015",
            )
        ]

    def test_e016_a_form_that_is_not_there(self, apps):
        shape = self.shape(form="tests.app.forms.LostForm")

        assert checks.check_models(None) == [
            Error(
                "The form of on('go') of <State EventStates.new> cannot be imported: Module "
                '"tests.app.forms" does not define a "LostForm" attribute/class',
                hint="Correct the dotted path, or give the class.",
                obj=shape,
                id="fsmworker.E016",
            )
        ]

    def test_w006_a_permission_that_no_model_declares(self, apps):
        shape = self.shape(permission="tests.aprove_purchase")

        assert checks.check_models(None) == [
            Warning(
                "No model declares the permission 'tests.aprove_purchase' of on('go') of <State "
                "EventStates.new>: nobody but superusers has it.",
                hint="Correct it, or add it to the permissions in a model's Meta.",
                obj=shape,
                id="fsmworker.W006",
            )
        ]

    @pytest.mark.parametrize("permission", ["tests.approve_purchase", "tests.change_trouble"])
    def test_permissions_of_models(self, apps, permission):
        self.shape(permission=permission)

        assert checks.check_models(None) == []

    def test_another_back_end_may_know_more_permissions(self, apps, settings):
        settings.AUTHENTICATION_BACKENDS = ["rules.permissions.ObjectPermissionBackend"]
        self.shape(permission="books.rate_book")

        assert checks.check_models(None) == []

    def test_nothing_to_find(self, apps):
        self.shape(when=models.Q(state_failures=0), form="tests.app.forms.PayForm")

        assert checks.check_models(None) == []

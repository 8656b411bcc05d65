"""What a MariaDB or MySQL lacks is said in a sentence that names it and the next step."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest
from django.core.checks import Warning
from django.db import connection

from django_fsmworker import checks
from django_fsmworker.runner import preflight
from django_fsmworker.store import store_for
from testapp.models import Order
from tests.app.models import Noop

pytestmark = [pytest.mark.mysql, pytest.mark.django_db(transaction=True)]

DUE = "testapp_order_0ac575_due"
LACK = (
    "testapp.Order has no index on (state, state_next) in the database 'default': a runner reads "
    "the whole table instead."
)
REMEDY = (
    "Add AddStateIndexes('order') to a migration of 'testapp' (from django_fsmworker.operations), "
    f"or run: CREATE INDEX `{DUE}` ON `testapp_order` (`state`, `state_next`)."
)


@pytest.fixture
def store():
    return store_for("default")


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


@contextmanager
def session(assignment: str) -> Any:
    """A session that was told so; the next one is as it was."""
    execute(f"SET SESSION {assignment}")
    try:
        yield
    finally:
        connection.close()


class TestShortcomings:
    def test_the_tests_own_server_has_none(self, store):
        assert store.shortcomings() == []

    def test_a_time_zone_other_than_utc_is_said(self, store):
        with session("time_zone = '+02:00'"):
            assert store.shortcomings() == [
                "Sessions of the database 'default' are 7200 s ahead of UTC, and so is the due "
                "time of a row that plain SQL inserts. Add 'init_command': "
                "\"SET time_zone = '+00:00'\" to its OPTIONS."
            ]

    def test_a_mode_that_is_not_strict_is_said(self, store):
        with session("sql_mode = ''"):
            assert store.shortcomings() == [
                "The database 'default' is not in strict mode: it changes values that do not fit. "
                "Add 'init_command': \"SET sql_mode = 'STRICT_TRANS_TABLES'\" to its OPTIONS."
            ]

    def test_a_small_character_set_is_said(self, store):
        with session("character_set_connection = 'latin1'"):
            assert store.shortcomings() == [
                "Sessions of the database 'default' use the character set latin1, which has no "
                "place for every character that a failure's message may have. Take 'charset' out "
                "of its OPTIONS, or set it to 'utf8mb4'."
            ]


class TestTimesOfASession:
    """Whatever its time zone, due, lease and expiry are compared in UTC."""

    def test_rows_are_due_when_they_are(self, store):
        with session("time_zone = '-05:00'"):
            row = Noop.objects.create()
            assert Noop.objects.due().get() == row
            assert abs((store.now() - row.state_next).total_seconds()) < 5
            (claimed,) = Noop.state_get_ready(1, 30)
            assert 25 < (claimed.state_lease - store.now()).total_seconds() <= 30


class TestRefusals:
    def test_an_ordinary_table_is_not_refused(self, store):
        assert store.refusals(Noop) == []

    def test_an_engine_without_row_locks(self, store):
        execute("ALTER TABLE tests_noop ENGINE = Aria")
        try:
            assert store.refusals(Noop) == [
                "The table of tests.Noop has the storage engine Aria, which locks no rows; run "
                "'ALTER TABLE `tests_noop` ENGINE = InnoDB'."
            ]
        finally:
            execute("ALTER TABLE tests_noop ENGINE = InnoDB")

    @pytest.mark.parametrize(
        ("mode", "named"),
        [
            ("ORACLE", "ORACLE and SIMULTANEOUS_ASSIGNMENT"),
            ("SIMULTANEOUS_ASSIGNMENT", "SIMULTANEOUS_ASSIGNMENT"),
        ],
    )
    def test_a_mode_that_changes_what_statements_mean(self, store, mode, named):
        if connection.display_name != "MariaDB":
            pytest.skip("MySQL has none of these")
        with session(f"sql_mode = CONCAT(@@sql_mode, ',{mode}')"):
            assert store.refusals(Noop) == [
                f"Sessions of the database 'default' have {named} in their sql_mode, by which a "
                f"runner's statements mean something else. Set another one by 'init_command' in "
                f"its OPTIONS."
            ]

    def test_an_old_version_is_refused(self, store, monkeypatch):
        name = connection.display_name
        monkeypatch.setattr(connection, "mysql_version", (5, 7, 44))

        (sentence,) = store.refusals(Noop)

        wanted = "10.6" if name == "MariaDB" else "8.0.13"
        assert sentence == (
            f"The database 'default' is {name} 5.7.44, which is too old: {wanted} is needed."
        )

    def test_columns_of_local_times_are_refused(self, store, monkeypatch):
        monkeypatch.setattr(connection, "timezone_name", "Europe/Berlin")

        assert store.refusals(Noop) == [
            "The database 'default' has the TIME_ZONE 'Europe/Berlin', so its columns hold local "
            "times, which are ambiguous for an hour a year. Take it out of DATABASES['default']."
        ]


class TestMissingIndexes:
    @pytest.fixture
    def without_index(self):
        execute(f"DROP INDEX {DUE} ON testapp_order")
        yield
        execute(f"CREATE INDEX {DUE} ON testapp_order (state, state_next)")

    def test_a_migrated_table_lacks_none(self, store):
        assert store.missing_indexes(Order) == []
        assert checks.check_tables(None, databases=["default"]) == []

    def test_a_table_without_its_index_is_said(self, store, without_index):
        assert store.missing_indexes(Order) == [(LACK, REMEDY)]

    def test_another_name_will_do(self, store, without_index):
        execute("CREATE INDEX mine ON testapp_order (state, state_next, id)")
        try:
            assert store.missing_indexes(Order) == []
        finally:
            execute("DROP INDEX mine ON testapp_order")

    def test_w004_names_the_table_that_lacks_one(self, without_index):
        assert checks.check_tables(None, databases=["default"]) == [
            Warning(LACK, hint=REMEDY, obj=Order, id="fsmworker.W004")
        ]
        assert checks.check_tables(None, databases=None) == []

    def test_no_table_no_complaint(self, monkeypatch):
        monkeypatch.setattr(connection.introspection, "table_names", lambda: [])

        assert checks.check_tables(None, databases=["default"]) == []

    def test_a_runner_says_it_at_its_start(self, store, without_index, caplog):
        preflight.inspect({Order: store})

        assert f"{LACK} {REMEDY}" in caplog.messages

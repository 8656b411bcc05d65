"""``manage.py stator doctor``: what is wrong with the databases."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections

from django_fsmworker import clock
from django_fsmworker.diagnosis import doctor
from django_fsmworker.diagnosis.doctor import examine
from django_fsmworker.models import Event
from django_fsmworker.pauses import pause
from django_fsmworker.store.statistics import Finding
from django_fsmworker.testing import travel
from tests.app.models import Account, Noop, Parcel, Trouble
from tests.command.conftest import Ended
from tests.database.plans import renew_files
from tests.database.rows import PAST, put

pytestmark = pytest.mark.django_db

Stator = Callable[..., Ended]
DUE_INDEX = next(each.name for each in Noop._meta.indexes if each.name.endswith("_due"))


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.fixture(autouse=True)
def no_earlier_updates(db: None, vendor: str) -> None:
    """PostgreSQL has their dead rows, and still counts them, which is no finding here."""
    if vendor == "postgresql":
        renew_files(Noop)
        execute(f"SELECT pg_stat_reset_single_table_counters('{Noop._meta.db_table}'::regclass)")


def found(code: str) -> Finding:
    (finding,) = [each for each in examine([Noop], "default") if each.code == code]
    assert finding.sentence.endswith(".")
    assert finding.remedy
    return finding


def codes() -> list[str]:
    return [each.code for each in examine([Noop], "default")]


class TestCommand:
    def test_nothing_is_wrong(self, stator: Stator, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "_settings", lambda models, store: iter(()))

        assert stator("doctor", "tests.Noop") == Ended(0, "Nothing found.\n")

    def test_something_is(self, stator: Stator, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "_settings", lambda models, store: iter(()))
        put(Noop.objects.create(), state="moon")

        ended = stator("doctor", "tests.Noop")

        assert ended.code == 3
        assert ended.lines == [
            "warning: 1 row of tests.Noop is in the state moon, which its graph does not declare: "
            "no runner with this code runs it.",
            "  Ask 'manage.py stator plan tests.Noop'.",
        ]

    def test_json(self, stator: Stator) -> None:
        put(Noop.objects.create(), state_next=PAST)

        data = stator("doctor", "tests.Noop", "--json").data

        assert "not_run" in [each["code"] for each in data]
        assert set(data[0]) == {
            "database", "code", "sentence", "remedy", "severity", "evidence",
        }  # fmt: skip


class TestAnyDatabase:
    @pytest.mark.parametrize(("rows", "others"), [(1, ""), (2, ", and 2 are due in all")])
    def test_rows_that_nobody_runs(self, rows: int, others: str) -> None:
        for _ in range(rows):
            put(Noop.objects.create(), state_next=PAST)

        assert found("not_run").sentence == (
            f"A row of tests.Noop in the state new has been due for 1 h{others}: no runner serves "
            "the model, or too few do."
        )

    def test_rows_that_are_paused_are_not_complained_of(self) -> None:
        put(Noop.objects.create(), state_next=PAST)
        pause(Noop, "new")

        assert "not_run" not in codes()

    def test_events_that_nobody_delivers(self) -> None:
        Account.objects.create().state_submit("nothing")
        put(Event.objects.get(), state_next=PAST)

        (finding,) = [each for each in examine([Event], "default") if each.code == "not_run"]

        assert finding.remedy == (
            "Start 'manage.py runstator' for the models that they are for, or more of them."
        )

    @pytest.mark.sqlite
    def test_settings_that_the_system_checks_complain_of(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 1)

        assert "fsmworker.W001" in codes()

    @pytest.mark.postgresql
    def test_what_a_runner_says_at_its_start(self) -> None:
        execute("SET LOCAL default_transaction_isolation = 'serializable'")

        assert "shortcoming" in codes()

    @pytest.mark.mysql
    @pytest.mark.postgresql  # SQLite has no clock of its own
    @pytest.mark.parametrize("seconds", [90, -90])
    def test_clocks_that_are_apart(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        now = clock.now
        with travel(seconds=seconds):
            monkeypatch.setattr(clock, "now", lambda: now() - clock.travelled())

            sentence = found("clocks_apart").sentence

        direction = "ahead of" if seconds > 0 else "behind"
        assert re.search(rf"is 1 min \d+ s {direction} this machine's", sentence), sentence

    @pytest.mark.parametrize("looked", [0, 10])
    def test_an_answer_that_took_long_says_little_about_clocks(
        self, looked: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        began = clock.now()
        moments = iter([began, began + timedelta(seconds=10)])
        monkeypatch.setattr(clock, "now", lambda: next(moments))
        store: Any = SimpleNamespace(alias="default", now=lambda: began + timedelta(seconds=looked))

        assert list(doctor._clock(store)) == []


@pytest.mark.postgresql
@pytest.mark.sqlite
@pytest.mark.parametrize("purpose", ["due", "stranded", "key"])
def test_an_index_that_is_missing(purpose: str) -> None:
    name, *_others = [
        each.name for each in Parcel._meta.indexes if each.name.endswith(f"_{purpose}")
    ]
    execute(f'DROP INDEX "{name}"')

    (finding,) = [each for each in examine([Parcel], "default") if each.code == "missing_index"]

    assert finding.evidence == {"index": name}


@pytest.mark.postgresql
class TestPostgreSQL:
    @pytest.fixture
    def statistics(self) -> Any:
        from django_fsmworker.store.postgresql import statistics

        return statistics

    def test_a_table_that_is_not_migrated(self) -> None:
        put(Trouble.objects.create(), state_next=PAST)
        execute(f"ALTER TABLE {Noop._meta.db_table} DROP COLUMN state_lease")

        found = {each.code: each for each in examine([Noop, Trouble], "default")}

        assert "tests.Trouble" in found["not_run"].sentence
        first = found["refused"]
        assert first.sentence.startswith(
            "No runner with this code runs tests.Noop: the table of tests.Noop in the database "
            "'default' is not as the code expects it (column "
        )
        assert first.remedy.startswith("Run 'manage.py migrate --database default', or ")

    def test_another_error_is_none_of_a_table_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def wait(*_: Any) -> Any:
            execute("SET LOCAL statement_timeout = 200")
            execute("SELECT pg_sleep(60)")

        monkeypatch.setattr("django_fsmworker.diagnosis.doctor.status_of", wait)

        with pytest.raises(DatabaseError, match="statement timeout"):
            list(examine([Noop], "default"))

    def test_an_index_that_is_not_valid(self) -> None:
        execute(
            f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{DUE_INDEX}'::regclass"
        )

        assert found("invalid_index").remedy == f'Run REINDEX INDEX CONCURRENTLY "{DUE_INDEX}".'

    def test_a_lane_that_begins_with_dead_entries(
        self, statistics: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        execute(f'REINDEX TABLE "{Noop._meta.db_table}"')  # which tests before have used
        assert "dead_prefix" not in codes()
        rows = Noop.objects.bulk_create(Noop() for _ in range(2000))
        Noop.objects.exclude(pk=rows[-1].pk).delete()
        monkeypatch.setattr(statistics, "MANY_PAGES", 20)

        found = [each for each in examine([Noop], "default") if each.code == "dead_prefix"]

        assert [each.evidence["state"] for each in found] == ["new"]

    def test_autovacuum_that_is_off(self) -> None:
        execute("ALTER TABLE tests_noop SET (autovacuum_enabled = false)")

        assert found("no_autovacuum").remedy.endswith('"tests_noop" RESET (autovacuum_enabled).')

    def test_autovacuum_that_comes_late(
        self, statistics: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(statistics, "LARGE_TABLE", -1)

        assert found("late_autovacuum").severity == "advice"
        execute("ALTER TABLE tests_noop SET (autovacuum_vacuum_scale_factor = 0.01)")
        assert "late_autovacuum" not in codes()

    @pytest.mark.parametrize(
        ("options", "remedy"),
        [
            ("", 'Run ALTER TABLE "tests_noop" SET (fillfactor = 70), and VACUUM FULL once.'),
            (
                "fillfactor=70",
                "See whether an index has state_lease, state_claim or state_failures.",
            ),
        ],
    )
    def test_few_hot_updates(self, options: str, remedy: str, statistics: Any) -> None:
        from django_fsmworker.store.tables import table_for

        table = table_for(Noop, "default")

        (few,) = statistics._updates("tests.Noop", table, 20_000, 1000, 7, 10.0, options)
        none = statistics._updates("tests.Noop", table, 20_000, 10_000, 7, 10.0, options)

        assert (few.code, few.remedy) == ("few_hot_updates", remedy)
        assert "only 5% were HOT" in few.sentence
        assert list(none) == []

    @pytest.fixture
    def open_transaction(self) -> Iterator[int]:
        """Another session's; its process id."""
        another = connections.create_connection("default")
        another.ensure_connection()
        another.set_autocommit(False)
        with another.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            yield cursor.fetchone()[0]
        another.close()

    def test_a_session_that_keeps_dead_rows(
        self, open_transaction: int, statistics: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert "long_transaction" not in codes()
        monkeypatch.setattr(statistics, "LONG_TRANSACTION", -1)

        pids = [
            each.evidence["pid"]
            for each in examine([Noop], "default")
            if each.code == "long_transaction"
        ]

        assert open_transaction in pids


@pytest.mark.mysql
@pytest.mark.django_db(transaction=True)
def test_an_index_that_is_missing_on_mysql() -> None:
    execute(f"DROP INDEX `{DUE_INDEX}` ON tests_noop")
    try:
        assert "AddStateIndexes('noop')" in found("missing_index").remedy
    finally:
        execute(f"CREATE INDEX `{DUE_INDEX}` ON tests_noop (state, state_next)")


@pytest.mark.mysql
@pytest.mark.django_db(transaction=True)
def test_an_index_on_keys_that_is_missing_on_mysql() -> None:
    index = next(each for each in Parcel._meta.indexes if "carrier" in each.fields)
    execute(f"DROP INDEX `{index.name}` ON tests_parcel")
    try:
        (finding,) = [each for each in examine([Parcel], "default") if each.code == "missing_index"]
        assert "no index on (state, carrier, state_next)" in finding.sentence
    finally:
        execute(f"CREATE INDEX `{index.name}` ON tests_parcel (state, carrier, state_next)")

"""Tables that change under a running process: their models rest, and nobody is blamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, connections

from django_fsmworker.models.limits import Bucket, Pause, Permit
from django_fsmworker.models.records import FailureRecord
from django_fsmworker.store import Store
from tests.app.models import Delivery, Endpoint, Expiring, Noop, Parcel, Trouble
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import entered, fresh, states

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]

FAILURES = FailureRecord._meta.db_table


def execute(*statements: str) -> None:
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)


@contextmanager
def renamed(table: str, column: str | None = None) -> Iterator[None]:
    """The table, or one column of it, has another name while the ``with`` block runs."""
    if column is None:
        there = f"ALTER TABLE {table} RENAME TO {table}_away"
        back = f"ALTER TABLE {table}_away RENAME TO {table}"
    else:
        there = f"ALTER TABLE {table} RENAME COLUMN {column} TO {column}_away"
        back = f"ALTER TABLE {table} RENAME COLUMN {column}_away TO {column}"
    execute(there)
    try:
        yield
    finally:
        connection.close()  # SQLite renames by the schema that a connection read last
        execute(back)


def said(caplog: pytest.LogCaptureFixture, action: str) -> list[str]:
    return [each.getMessage() for each in caplog.records if getattr(each, "action", None) == action]


def nobody_is_blamed(caplog: pytest.LogCaptureFixture, *rows: Any) -> None:
    assert not said(caplog, "outage")
    assert not said(caplog, "claim_failed")
    assert not FailureRecord.objects.exists()
    assert {fresh(row).state_failures for row in rows} == {0}


class TestAModelRests:
    @pytest.mark.parametrize("column", ["value", "state_failures", "state_claim", None])
    def test_and_the_others_go_on(
        self,
        start_runner: Start,
        eventually: Eventually,
        caplog: pytest.LogCaptureFixture,
        column: str | None,
    ) -> None:
        """A column of the project's, columns of the engine's, the table."""
        runner = start_runner(Trouble, Noop)
        warm = Trouble.objects.create()
        eventually(lambda: fresh(warm).state == "done")
        waiting = Trouble.objects.create(state="waiting")
        Trouble.objects.filter(pk=waiting.pk).update(state="new", state_next=None)
        due = Trouble.objects.create(state="done")
        Trouble.objects.filter(pk=due.pk).update(state="new")

        with renamed("tests_trouble", column):
            if column == "state_claim":  # which MariaDB is not asked about while nothing is due
                execute(f"UPDATE tests_trouble SET state_next = state_changed WHERE id = {due.pk}")
            runner.runner.parts.claimer.hinted(Trouble)
            eventually(lambda: runner.runner.status().models_resting == ("tests.Trouble",))
            rows = [Noop.objects.create() for _ in range(20)]
            eventually(lambda: set(states(rows)) == {"done"})
            assert runner.alive
            assert not runner.runner.status().databases_away
        Trouble.objects.filter(pk=due.pk).update(state_next=warm.state_changed)
        eventually(lambda: fresh(due).state == "done")

        (sentence,) = said(caplog, "mismatch")
        assert sentence.startswith(
            "tests.Trouble rests: the table of tests.Trouble in the database 'default' is not as "
            "the code expects it ("
        )
        assert sentence.endswith(
            "); run 'manage.py migrate --database default', restart processes with older code, or "
            "give the runner's role its rights there."
        )
        assert said(caplog, "mismatch_over") == [
            "tests.Trouble is run again: its table is as the code expects it."
        ]
        nobody_is_blamed(caplog, due)

    @pytest.mark.parametrize("column", ["value", "state_lease", None])
    def test_what_is_held_meanwhile_is_written_afterwards(
        self,
        start_runner: Start,
        eventually: Eventually,
        caplog: pytest.LogCaptureFixture,
        held_check: Any,
        column: str | None,
    ) -> None:
        """Its lease is to be renewed meanwhile, its outcome written, another row handed back."""
        rows = Trouble.objects.bulk_create(Trouble(mode="held") for _ in range(4))
        runner = start_runner(Trouble, lease=6)
        eventually(lambda: len(held_check.begun) == 4)
        renewals = []

        with renamed("tests_trouble", column):
            runner.runner.parts.claimer.hinted(Trouble)
            eventually(lambda: runner.runner.status().models_resting)
            held_check.released.set()
            eventually(lambda: not runner.runner.status().threads.running)
            renewals.append(len(said(caplog, "renew_failed")))
        eventually(lambda: set(states(rows)) == {"done"}, 30)

        assert renewals == [0]
        assert sorted(held_check.begun) == [row.pk for row in rows], "each ran once"
        assert not said(caplog, "unwritten")
        nobody_is_blamed(caplog, *rows)

    def test_guards_and_sweeps_blame_nobody(
        self, start_runner: Start, eventually: Eventually, caplog: pytest.LogCaptureFixture
    ) -> None:
        endpoint = Endpoint.objects.create(paused=True)
        runner = start_runner(Delivery)
        eventually(lambda: runner.runner.status().rounds)
        swept = Delivery.objects.create(endpoint=endpoint, state="held")
        guarded = Delivery.objects.create(endpoint=endpoint, state="gone")
        Delivery.objects.filter(pk=guarded.pk).update(state="pending")

        with renamed("tests_delivery", "amount"):
            runner.runner.parts.claimer.hinted(Delivery)
            runner.runner.parts.sweeper.hinted(Delivery)
            eventually(lambda: runner.runner.status().models_resting)
        Delivery.objects.filter(pk=guarded.pk).update(state_next=swept.state_changed)
        eventually(lambda: fresh(guarded).state == "held")

        assert not said(caplog, "sweep_failed")
        nobody_is_blamed(caplog, swept, guarded)

    def test_failures_that_cannot_be_recorded_do_not_count(
        self, start_runner: Start, eventually: Eventually, caplog: pytest.LogCaptureFixture
    ) -> None:
        runner = start_runner(Trouble, Noop)
        eventually(lambda: runner.runner.status().rounds)

        with renamed(FAILURES):
            row = Trouble.objects.create(mode="raise")
            eventually(lambda: runner.runner.status().models_resting == ("tests.Trouble",))
            assert fresh(row).state_failures == 0
        eventually(lambda: fresh(row).state_failures == 1)

        (sentence,) = said(caplog, "mismatch")
        assert sentence.startswith(
            "tests.Trouble rests: the table of django_fsmworker.FailureRecord in the database "
            "'default' is not as the code expects it ("
        )
        assert not said(caplog, "outage")
        assert FailureRecord.objects.get().count == 1

    @pytest.mark.parametrize("records", [Permit, Bucket, Pause])
    def test_limits_that_cannot_be_asked_about(
        self,
        start_runner: Start,
        eventually: Eventually,
        caplog: pytest.LogCaptureFixture,
        records: Any,
    ) -> None:
        """Nobody runs what may be limited or paused; all models need the table of pauses."""
        runner = start_runner(Parcel, Noop).runner
        eventually(lambda: runner.status().rounds)

        with renamed(records._meta.db_table):
            rows = Parcel.objects.bulk_create(Parcel(state=each) for each in ("limited", "rated"))
            resting = {"tests.Parcel"} | ({"tests.Noop"} if records is Pause else set())

            def rest_once_asked() -> bool:
                """A claim a moment after the last question is made without asking again."""
                runner.parts.claimer.look_at_pauses()
                runner.parts.claimer.hinted(Parcel)
                return resting <= set(runner.status().models_resting)

            eventually(rest_once_asked)
        eventually(lambda: set(states(rows)) == {"sent"})
        eventually(lambda: not runner.status().models_resting)

        assert any(records._meta.label in sentence for sentence in said(caplog, "mismatch"))
        assert len(said(caplog, "mismatch")) == len(said(caplog, "mismatch_over"))
        assert "Claiming failed; trying again." not in caplog.messages
        nobody_is_blamed(caplog, *rows)

    def test_one_that_is_as_expected_again_when_it_is_looked_at(
        self,
        start_runner: Start,
        eventually: Eventually,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        runner = start_runner(Noop).runner
        eventually(lambda: runner.status().rounds)
        table, store = Pause._meta.db_table, runner.stores[Noop]
        looks, looked_at = store.mismatch, list[Any]()

        def mended_just_before(model: Any, error: BaseException) -> Any:
            if not looked_at:
                execute(f"ALTER TABLE {table}_away RENAME TO {table}")
            looked_at.append(model)
            return looks(model, error)

        def another_row() -> bool:
            Noop.objects.create()
            runner.parts.claimer.hinted(Noop)
            return bool(looked_at)

        monkeypatch.setattr(store, "mismatch", mended_just_before)
        execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        try:
            runner.parts.claimer.look_at_pauses()
            eventually(another_row)  # pauses are asked about some time after the last question
            eventually(lambda: not Noop.objects.exclude(state="done").exists())
        finally:
            if not looked_at:
                execute(f"ALTER TABLE {table}_away RENAME TO {table}")

        assert looked_at
        assert not said(caplog, "mismatch")
        nobody_is_blamed(caplog, *Noop.objects.all())

    def test_a_single_pass_does_not_wait(self, caplog: pytest.LogCaptureFixture) -> None:
        """The table changes under the check: its outcome cannot be written, and the pass ends."""
        from tests.app.models import trouble

        row = Trouble.objects.create(mode="rename")
        away = renamed("tests_trouble", "state_failures")

        def rename(states: Any, row: Trouble) -> str:
            away.__enter__()
            return "done"

        trouble.MODES["rename"] = rename
        try:
            one_pass(Trouble, Noop, drain_timeout=0.5)
        finally:
            del trouble.MODES["rename"]
            away.__exit__(None, None, None)

        assert said(caplog, "unwritten")
        nobody_is_blamed(caplog, row)

    @pytest.mark.parametrize("column", ["state_lease", None])
    def test_a_table_that_is_mended_before_it_is_looked_at_blames_no_row(
        self,
        mode: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        column: str | None,
    ) -> None:
        """The migration ends between the statement that failed and the look at the table."""
        row = Trouble.objects.create(mode="rename")
        away = renamed("tests_trouble", column)
        look, looks = Store.mismatch, []

        def rename(row: Trouble) -> str:
            away.__enter__()
            return "done"

        def mend_and_look(store: Store, model: Any, error: BaseException) -> Any:
            looks.append(error)
            away.__exit__(None, None, None)
            return look(store, model, error)

        mode("rename", rename)
        monkeypatch.setattr(Store, "mismatch", mend_and_look)
        assert row.state_transition_check() == "done"

        assert len(looks) == 1
        nobody_is_blamed(caplog, row)

    def test_expiry_leaves_its_rows_alone(
        self, start_runner: Start, eventually: Eventually, caplog: pytest.LogCaptureFixture
    ) -> None:
        runner = start_runner(Expiring, Noop, delete_interval=0.1)
        eventually(lambda: runner.runner.status().rounds)
        with renamed("tests_expiring", "state_changed"):
            eventually(lambda: runner.runner.status().models_resting == ("tests.Expiring",))
        eventually(lambda: not runner.runner.status().models_resting)
        row = Expiring.objects.create(state="gone")
        entered(row, seconds_ago=10**7)
        eventually(lambda: not Expiring.objects.filter(pk=row.pk).exists())

        assert not said(caplog, "housekeeping")
        assert not said(caplog, "outage")


@pytest.mark.postgresql
@pytest.mark.mysql
class TestRights:
    @pytest.fixture
    def role(self, vendor: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
        """The role that runners connect as from here on; it has every right but by name."""
        settings = connections.settings["default"]
        tables = connection.introspection.table_names()
        if vendor == "postgresql":
            role = "fsmworker_limited"
            execute(
                f"DROP ROLE IF EXISTS {role}",
                f"CREATE ROLE {role}",
                f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
                f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}",
            )
            monkeypatch.setitem(settings["OPTIONS"], "options", f"-c role={role}")
            yield role
            execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
        else:
            role = "'limited'@'%%'"
            name = connection.settings_dict["NAME"]
            execute(
                f"CREATE OR REPLACE USER {role} IDENTIFIED BY 'limited'".replace("%%", "%"),
                *(f"GRANT ALL ON {name}.{table} TO {role}".replace("%%", "%") for table in tables),
            )
            monkeypatch.setitem(settings, "USER", "limited")
            monkeypatch.setitem(settings, "PASSWORD", "limited")
            yield role.replace("%%", "%")
            execute(f"DROP USER {role}".replace("%%", "%"))

    def test_one_that_is_taken_away_and_given_back(
        self,
        start_runner: Start,
        eventually: Eventually,
        caplog: pytest.LogCaptureFixture,
        role: str,
        mode: Callable[..., None],
    ) -> None:
        ran = []
        mode("log", lambda row: [ran.append(row.pk), "done"][1])  # type: ignore[func-returns-value]
        runner = start_runner(Trouble, Noop)
        rows = [Trouble.objects.create(mode="log")]
        eventually(lambda: set(states(rows)) == {"done"})

        execute(f"REVOKE UPDATE ON tests_trouble FROM {role}")
        try:
            rows.append(Trouble.objects.create(mode="log"))
            eventually(lambda: runner.runner.status().models_resting == ("tests.Trouble",))
            other = Noop.objects.create()
            eventually(lambda: fresh(other).state == "done")
        finally:
            execute(f"GRANT UPDATE ON tests_trouble TO {role}")
        eventually(lambda: set(states(rows)) == {"done"})
        runner.stop()

        assert len(said(caplog, "mismatch")) == 1
        assert ran == [row.pk for row in rows]
        nobody_is_blamed(caplog, *rows)


class TestNoMismatch:
    """What is refused in the words of a mismatch, and is one row's doing."""

    @pytest.mark.postgresql
    def test_a_trigger_that_stumbles_over_one_row(
        self, start_runner: Start, eventually: Eventually, caplog: pytest.LogCaptureFixture
    ) -> None:
        execute(
            "CREATE FUNCTION stumble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.value = 7 AND NEW.state = 'done' THEN PERFORM nothing_of_the_kind FROM "
            "tests_noop; END IF; RETURN NEW; END $$",
            "CREATE TRIGGER stumble BEFORE UPDATE ON tests_trouble FOR EACH ROW "
            "EXECUTE FUNCTION stumble()",
        )
        try:
            bad = Trouble.objects.create(value=7)
            good = [Trouble.objects.create() for _ in range(5)]
            runner = start_runner(Trouble)
            eventually(lambda: set(states(good)) == {"done"})
            eventually(lambda: fresh(bad).state_failures == 1)
            assert not runner.runner.status().models_resting
        finally:
            execute("DROP FUNCTION stumble() CASCADE")

        assert not said(caplog, "mismatch")
        assert not said(caplog, "outage")

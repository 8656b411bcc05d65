"""The transition log: one entry for each committed transition, whoever made it, and none else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connections, transaction

from django_fsmworker import clock
from django_fsmworker.exceptions import NotAllowed, StaleState
from django_fsmworker.models import TransitionRecord, moved_by
from django_fsmworker.runner.execution.writing import write
from django_fsmworker.runner.guards.sweep import Sweep
from django_fsmworker.store import Ending, store_for
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.transition_log import drop_old
from django_fsmworker.testing import travel
from tests.app.models import BasicModel, BigKind, Noop, Purchase, TextKind, Trouble
from tests.database.rows import (
    LEASE,
    claim,
    claimed,
    fetch,
    moved,
    put,
    statements,
    stayed,
    timed,
)
from tests.model_kinds import KindOfModel, every_kind

pytestmark = pytest.mark.django_db

LOG = TransitionRecord._meta.db_table


@pytest.fixture(autouse=True)
def logged(monkeypatch):
    for model in (BasicModel, BigKind, Noop, Purchase, TextKind, Trouble):
        monkeypatch.setattr(model, "log_transitions", True)


@pytest.fixture
def store():
    return store_for("default")


def ways(row):
    """Where the row went, and why."""
    return [(each.source, each.target, each.cause) for each in row.state_log]


def seconds(entry):
    """How long the row was in the source."""
    return entry.duration.total_seconds()


def written(row, outcomes=None):
    """Settle, as a runner does, and have the only entry of the row."""
    write(store_for("default"), type(row), outcomes or [moved(row, "done")], "host:1")
    return row.state_log.get()


class TestByChecks:
    def test_an_entry_tells_everything(self):
        row = claimed(Trouble)

        with travel(seconds=90), timed() as span:
            entry = written(row)

        assert (entry.model, entry.row) == ("tests.Trouble", str(row.pk))
        assert (entry.source, entry.target, entry.cause) == ("new", "done", "check")
        assert span.leads_to(entry.at, 0)
        assert span.leads_to(fetch(row).state_changed, 0)
        assert 90 <= seconds(entry) < 120
        assert (entry.worker, entry.attempt) == ("host:1", 1)
        assert (entry.trigger, entry.by, entry.reason) == ("", "", "")
        assert str(entry) == f"tests.Trouble {row.pk}: new -> done"

    def test_the_attempt_that_went_well(self):
        row = claimed(Trouble, state_failures=2)

        assert written(row).attempt == 3

    def test_run_here(self):
        row = Trouble.objects.create(mode="to_patient")

        row.state_transition_check()

        assert ways(row) == [("new", "patient", "check")]

    def test_one_that_stays_is_no_entry(self, store):
        row = claimed(Trouble)

        store.settle(Trouble, [stayed(row)])

        assert not row.state_log.exists()

    def test_a_failure_that_is_tried_again_is_no_entry(self):
        row = Trouble.objects.create(mode="raise")

        row.state_transition_check()

        assert not row.state_log.exists()

    def test_the_failure_that_was_the_last_one(self):
        row = Trouble.objects.create(mode="raise", state_failures=2)

        row.state_transition_check()

        entry = row.state_log.get()
        assert ways(row) == [("new", "failed", "failure")]
        assert entry.reason == "RuntimeError: the moon is in the wrong house"
        assert entry.attempt == 3

    def test_a_timeout(self):
        row = BasicModel.objects.create()
        put(row, state_changed=-timedelta(seconds=20))

        fetch(row).state_transition_check()

        assert ways(row) == [("new", "timed_out", "timeout")]
        assert seconds(row.state_log.get()) >= 20
        assert row.state_log.get().attempt is None

    def test_into_the_same_state(self, store):
        row = claimed(Trouble)

        assert written(row, [moved(row, "new")]).target == "new"

    def test_a_guard_that_a_claim_asks(self):
        row = BigKind.objects.create(pk=1, wish="ask")

        row.state_transition_check()

        assert ways(row) == [("new", "asked", "guard")]

    def test_a_guard_that_a_sweep_asks(self):
        rows = [
            BigKind.objects.create(pk=key, state="asked", wish=wish)
            for key, wish in ((1, "end"), (2, "end"), (3, "no"))
        ]

        with travel(seconds=5):
            sweep(BigKind, "asked")

        assert [ways(row) for row in rows] == [*[[("asked", "done", "guard")]] * 2, []]
        entry = rows[0].state_log.get()
        assert (entry.worker, entry.attempt) == ("host:1", None)
        assert 5 <= seconds(entry) < 15

    def test_an_atomic_check(self):
        row = Trouble.objects.create(state="strict")

        row.state_transition_check()

        assert ways(row) == [("strict", "done", "check")]

    def test_an_atomic_check_whose_write_is_refused(self):
        row = Trouble.objects.create(state="strict", value=13)

        row.state_transition_check()

        assert not row.state_log.exists()

    def test_a_whole_life(self):
        row = Trouble.objects.create(mode="to_patient")

        row.state_transition_check()
        row.state_move("strict")
        row.state_transition("waiting")
        row.state = "done"
        row.save()

        assert [each.target for each in row.state_log] == ["patient", "strict", "waiting", "done"]
        history = fetch(row).state_history
        assert [state for state, _ in history] == ["new", "patient", "strict", "waiting", "done"]


def sweep(model, state, using="default"):
    """Move what its guards are true of."""
    told = []
    one = Sweep(
        store_for(using),
        model,
        model.state_graph.get(state),
        "host:1",
        lambda *moved: told.append(moved),
        lambda *failed: told.append(failed),
    )
    while not one.done:
        one.step()


class TestFence:
    def test_a_late_worker_logs_nothing(self, store):
        row = claimed(Trouble)
        put(row, state_claim=8)

        assert not store.settle(Trouble, [moved(row, "done")])

        assert not row.state_log.exists()

    def test_only_those_that_were_written(self, store):
        rows = [claimed(Noop) for _ in range(3)]
        put(rows[1], state_claim=8)

        store.settle(Noop, [moved(row, "done") for row in rows])

        assert [row.state_log.count() for row in rows] == [1, 0, 1]

    def test_twice_is_once(self, store):
        row = claimed(Trouble)

        store.settle(Trouble, [moved(row, "done")])
        store.settle(Trouble, [moved(row, "done")])

        assert row.state_log.count() == 1

    def test_running_on(self, store):
        row = claimed(Trouble)

        (after,) = store.advance(Trouble, [moved(row, "patient")], LEASE, "host:1")
        store.settle(Trouble, [moved(after, "done")], "host:1")

        assert ways(row) == [("new", "patient", "check"), ("patient", "done", "check")]

    def test_running_on_too_late(self, store):
        row = claimed(Trouble)
        put(row, state="patient")

        assert store.advance(Trouble, [moved(row, "patient")], LEASE) == []

        assert not row.state_log.exists()

    def test_a_refused_batch_leaves_nothing(self, store):
        good, bad = claimed(Trouble), claimed(Trouble, value=13)

        with pytest.raises(IntegrityError), transaction.atomic():
            store.settle(Trouble, [moved(good, "done"), moved(bad, "done")])

        assert not TransitionRecord.objects.exists()

    @pytest.mark.postgresql
    def test_a_write_that_a_trigger_drops(self, store):
        row = claimed(Trouble)
        with connections["default"].cursor() as cursor:
            cursor.execute(
                "CREATE FUNCTION dropped() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RETURN NULL; END $$;"
                "CREATE TRIGGER dropped BEFORE UPDATE ON tests_trouble "
                "FOR EACH ROW EXECUTE FUNCTION dropped()"
            )

        assert not store.settle(Trouble, [moved(row, "done")])
        with pytest.raises(StaleState):
            row.state = "done"
            row.save()

        assert not row.state_log.exists()

    @pytest.mark.parametrize("size", [1, 700])
    def test_as_many_entries_as_rows(self, store, size):
        Noop.objects.bulk_create(Noop() for _ in range(size))

        store.settle(Noop, [moved(row, "done") for row in claim(Noop)])

        assert TransitionRecord.objects.count() == size
        assert TransitionRecord.objects.values("row").distinct().count() == size

    def test_they_take_no_statement_of_their_own_on_postgresql(self, store, vendor):
        Noop.objects.bulk_create(Noop() for _ in range(700))
        outcomes = [moved(row, "done") for row in claim(Noop)]

        with statements() as sent:
            store.settle(Noop, outcomes)

        # MariaDB and MySQL lock and write 500 at a time; all are logged at once.
        assert len(sent) == {"postgresql": 1, "sqlite": 1 + 1, "mysql": 2 * 2 + 1}[vendor]


class TestByHand:
    def test_a_move(self):
        row = Trouble.objects.create()

        row.state_move("waiting", by="ann", reason="she asked for it")

        entry = row.state_log.get()
        assert ways(row) == [("new", "waiting", "move")]
        assert (entry.by, entry.reason) == ("ann", "she asked for it")
        assert (entry.worker, entry.attempt) == ("", None)

    def test_an_event(self):
        row = Purchase.objects.create()

        row.state_send("hold", by="ann", reason="too dear")

        entry = row.state_log.get()
        assert ways(row) == [("open", "held", "event")]
        assert (entry.trigger, entry.by, entry.reason) == ("hold", "ann", "too dear")

    def test_an_event_that_moves_nothing(self):
        row = Purchase.objects.create()

        row.state_send("poke")

        assert not row.state_log.exists()

    def test_a_move_that_is_refused(self):
        row = Trouble.objects.create(state="done")

        with pytest.raises(NotAllowed):
            row.state_move("waiting")

        assert not row.state_log.exists()

    def test_a_move_from_another_state_than_the_one_seen(self):
        row = Trouble.objects.create()
        put(row, state="waiting", state_changed=-timedelta(minutes=5))

        row.state_move("done")

        assert ways(row) == [("waiting", "done", "move")]
        assert seconds(row.state_log.get()) >= 300

    def test_a_move_of_a_failing_row(self):
        row = Trouble.objects.create(mode="raise")
        row.state_transition_check()

        row.state_move("waiting")

        assert ways(row) == [("new", "waiting", "move")]

    def test_a_forced_one(self):
        row = Trouble.objects.create(state="done")

        row.state_transition("new", by="ann", reason="again")

        entry = row.state_log.get()
        assert ways(row) == [("done", "new", "forced")]
        assert (entry.by, entry.reason) == ("ann", "again")

    def test_a_forced_one_of_a_row_that_is_elsewhere(self):
        row = Trouble.objects.create()
        put(row, state="waiting")

        row.state_transition("done")

        assert ways(row) == [("waiting", "done", "forced")]

    def test_one_that_is_declared(self):
        row = Trouble.objects.create()

        row.state_transition("waiting", force=False, by="ann")

        assert ways(row) == [("new", "waiting", "forced")]
        assert row.state_log.get().by == "ann"

    def test_an_assignment(self):
        row = Trouble.objects.create()
        row.state = "waiting"

        row.save()

        assert ways(row) == [("new", "waiting", "forced")]

    def test_an_assignment_to_a_deferred_state(self):
        pk = Trouble.objects.create().pk
        row = Trouble.objects.only("mode").get(pk=pk)
        row.state = "waiting"

        row.save()

        assert ways(row) == [("new", "waiting", "forced")]

    def test_an_assignment_that_is_too_late(self):
        row = Trouble.objects.create()
        put(row, state="patient")
        row.state = "waiting"

        with pytest.raises(StaleState):
            row.save()

        assert not row.state_log.exists()

    @pytest.mark.parametrize("size", [1, 700])
    def test_a_queryset(self, size):
        Trouble.objects.bulk_create(
            Trouble(state="waiting" if number % 2 else "new") for number in range(size)
        )

        Trouble.state_transition_queryset(Trouble.objects.all(), "done", by="ann", reason="all")

        entries = TransitionRecord.objects.all()
        keys = set(Trouble.objects.values_list("pk", flat=True))
        assert sorted(int(each.row) for each in entries) == sorted(keys)
        assert sum(each.source == "waiting" for each in entries) == size // 2
        assert {(each.by, each.reason, each.cause) for each in entries} == {
            ("ann", "all", "forced")
        }
        assert None not in {each.duration for each in entries}

    def test_rolled_back_with_the_transaction(self):
        row = Trouble.objects.create()

        with pytest.raises(RuntimeError), transaction.atomic():
            row.state_move("waiting")
            raise RuntimeError

        assert not TransitionRecord.objects.exists()

    @pytest.mark.parametrize("create", [Trouble.objects.create, lambda: Trouble().save()])
    def test_neither_creation_nor_a_plain_save_is_a_transition(self, create):
        create()
        row = Trouble.objects.get()
        row.value = 1
        row.save()

        assert not TransitionRecord.objects.exists()

    @pytest.mark.django_db(transaction=True)
    def test_async(self):
        row = Trouble.objects.create()

        async def move_and_read():
            await row.astate_move("waiting", by="ann")
            await row.astate_transition("new", by="bob")
            await Trouble.astate_transition_queryset(Trouble.objects.all(), "done", by="eve")
            return [each.by async for each in row.state_log]

        assert async_to_sync(move_and_read)() == ["ann", "bob", "eve"]


class TestMovedBy:
    def test_all_that_is_moved_inside(self):
        rows = [Trouble.objects.create() for _ in range(4)]

        with moved_by("ann", "cleaning up"):
            rows[0].state_move("waiting")
            rows[1].state_transition("waiting")
            rows[2].state = "waiting"
            rows[2].save()
            Trouble.state_transition_queryset(Trouble.objects.filter(pk=rows[3].pk), "waiting")

        entries = [row.state_log.get() for row in rows]
        assert {(each.by, each.reason) for each in entries} == {("ann", "cleaning up")}

    def test_what_is_said_in_the_call_counts(self):
        row = Trouble.objects.create()

        with moved_by("ann", "cleaning up"):
            row.state_move("waiting", by="bob")
            row.state_move("done", reason="it is late")

        assert [(each.by, each.reason) for each in row.state_log] == [
            ("bob", "cleaning up"),
            ("ann", "it is late"),
        ]

    def test_blocks_in_one_another(self):
        row = Trouble.objects.create()

        with moved_by("ann"):
            with moved_by("bob"):
                row.state_transition("waiting")
            row.state_transition("done")
        row.state_transition("new")

        assert [each.by for each in row.state_log] == ["bob", "ann", ""]


class TestKinds:
    @every_kind
    @pytest.mark.django_db(databases=["default", "other"])
    def test_each_way(self, kind: KindOfModel, monkeypatch):
        monkeypatch.setattr(kind.runs, "log_transitions", True)
        row, other = kind.row(1), kind.row(2)

        row.state_transition_check()
        row.state_transition("new")
        kind.model.state_transition_queryset(kind.rows(), "asked")
        kind.rows().filter(pk=kind.stored(row).pk).update(wish="end")
        sweep(kind.runs, "asked", kind.using)

        assert ways(row) == [
            ("new", "done", "check"),
            ("done", "new", "forced"),
            ("new", "asked", "forced"),
            ("asked", "done", "guard"),
        ]
        assert ways(other) == [("new", "asked", "forced")]
        assert ways(kind.stored(row)) == ways(row)

    def test_keys_that_a_collation_takes_for_equal(self):
        rows = [TextKind(code=code) for code in ("abc", "abd")]
        for row in rows:
            row.save()
        rows[0].state_transition("done")
        TransitionRecord.objects.update(row="ABC")

        assert not TextKind(code="ABC").state_log.exists()

    def test_any_text(self, store):
        row = claimed(TextKind, code="\\\"'{}, NULL %s")
        failure = Failure.of(RuntimeError("\\\"'{}\n the second line"))
        outcome = moved(row, "failed", ending=Ending.FAILED, cause="failure", failure=failure)

        write(store, TextKind, [outcome], "\\\"'{}")

        entry = row.state_log.get()
        assert (entry.row, entry.worker) == (row.code, "\\\"'{}")
        assert entry.reason == "RuntimeError: \\\"'{}"

    def test_what_is_too_long_or_no_text(self):
        row = Trouble.objects.create()

        row.state_move("waiting", by=12, reason="\x00\ud800" + 600 * "x")

        entry = row.state_log.get()
        assert (entry.by, len(entry.reason), entry.reason[:3]) == ("12", 500, "\ufffd?x")


class TestWithout:
    """A model that keeps no log pays nothing for it."""

    @pytest.fixture(autouse=True)
    def without(self, logged, monkeypatch):
        for model in (BigKind, Noop, Trouble):
            monkeypatch.setattr(model, "log_transitions", False)

    def test_no_statement_knows_of_the_log(self, store):
        with statements() as sent:
            row = claimed(Trouble)
            (row,) = store.advance(Trouble, [moved(row, "patient")], LEASE, "host:1")
            store.settle(Trouble, [moved(row, "done")], "host:1")
            row = fetch(row)
            row.state_transition("new")
            row.state_move("waiting")
            row.state = "done"
            row.save()
            Trouble.state_transition_queryset(Trouble.objects.all(), "new")
            BigKind.objects.create(pk=1, state="asked", wish="end")
            asked = BigKind.objects.filter(state="asked")
            store.sweep(asked, BigKind.state_graph.get("done"), "host:1")

        assert not [statement for statement, _ in sent if LOG in statement]
        assert not row.state_log.exists()


class TestRetention:
    @pytest.fixture
    def rows(self):
        """One row for each day, the oldest first."""
        rows = [Trouble.objects.create() for _ in range(5)]
        for days, row in zip((5, 4, 3, 2, 1), rows, strict=True):
            row.state_transition("done")
            row.state_log.update(at=clock.now() - timedelta(days=days))
        return rows

    def left(self, rows):
        return [row.state_log.exists() for row in rows]

    def test_a_batch(self, rows):
        before = clock.now() - timedelta(days=2, hours=12)

        reached = drop_old("default", before, 0, 2)

        assert self.left(rows) == [False, False, True, True, True]
        assert reached is not None

    def test_one_after_the_other(self, rows):
        before = clock.now() - timedelta(days=2, hours=12)

        first = drop_old("default", before, 0, 2)
        assert first is not None
        second = drop_old("default", before, first, 2)
        assert second is not None
        assert drop_old("default", before, second, 2) is None

        assert self.left(rows) == [False, False, False, True, True]

    def test_nothing_is_old(self, rows):
        assert drop_old("default", clock.now() - timedelta(days=9), 0, 2) is None

        assert all(self.left(rows))

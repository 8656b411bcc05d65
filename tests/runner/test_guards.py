"""Guards of rows that a claim brings: asked before the check, and instead of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.models import Q

from django_fsmworker.runner.execution.guards import decisions
from django_fsmworker.runner.settler import RunOn
from django_fsmworker.signals import check_failed, state_changed
from django_fsmworker.store import store_for
from django_fsmworker.testing import run_until_idle
from tests.app.models import (
    Delivery,
    DeliveryStates,
    Errand,
    ErrandStates,
    Letter,
    LetterStates,
    Noop,
    deliveries,
)
from tests.app.models.deliveries import UNASKABLE
from tests.app.models.letters import CHECKS
from tests.database.rows import claim, moved
from tests.runner.deliveries import delivery, endpoint, guards_of
from tests.runner.embedded import Embedded, one_pass
from tests.runner.locking import TableLocker
from tests.runner.rows import due_in, entered, failure, fresh, lapse, path, reason, states
from tests.runner.statement_log import statements

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]

PENDING, HELD = DeliveryStates.pending, DeliveryStates.held


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The keys of the rows whose check was run."""
    keys: list[Any] = []

    def deliver(row: Delivery) -> Any:
        keys.append(row.pk)
        return "delivered"

    monkeypatch.setitem(deliveries.DELIVERIES, "deliver", deliver)
    return keys


@pytest.fixture
def told() -> Iterator[list[tuple[Any, ...]]]:
    """What signals tell of deliveries."""
    found: list[tuple[Any, ...]] = []

    def moved(sender: Any, pk: Any, source: str, target: str, cause: str, **kwargs: Any) -> None:
        found.append((pk, source, target, cause))

    def failed(sender: Any, pk: Any, source: str, failures: int, **kwargs: Any) -> None:
        found.append((pk, source, failures))

    state_changed.connect(moved, sender=Delivery)
    check_failed.connect(failed, sender=Delivery)
    yield found
    state_changed.disconnect(moved, sender=Delivery)
    check_failed.disconnect(failed, sender=Delivery)


class TestTrue:
    def test_the_row_moves_and_its_check_is_not_run(self, checked: list[Any], told: Any) -> None:
        row = delivery(endpoint=endpoint(paused=True))

        runner = one_pass(Delivery)

        assert path(row) == ["pending", "held"]
        assert checked == []
        assert told == [(row.pk, "pending", "held", "guard")]
        assert str(runner.counters).startswith("moved=1 stayed=0 failed=0")

    def test_the_columns_are_those_of_any_transition(self) -> None:
        row = delivery(endpoint=endpoint(paused=True))

        one_pass(Delivery)

        now = fresh(row)
        assert (now.state_claim, now.state_lease, now.state_failures) == (None, None, 0)
        assert 590 < due_in(row) <= 600  # the timeout of ``held``

    def test_the_first_that_is_true(self) -> None:
        row = delivery(endpoint=endpoint(paused=True), amount=5000)

        one_pass(Delivery)

        assert path(row) == ["pending", "held"]

    def test_a_guard_is_not_asked_after_one_that_is_true(self) -> None:
        row = delivery(endpoint=endpoint(paused=True), amount=UNASKABLE)

        one_pass(Delivery)

        assert path(row) == ["pending", "held"]
        assert failure(row) is None

    def test_a_suspect_is_moved_without_a_check(self, checked: list[Any]) -> None:
        row = delivery(endpoint=endpoint(paused=True))
        lapse([row])

        one_pass(Delivery)

        assert fresh(row).state == "held"
        assert fresh(row).state_failures == 0
        assert checked == []


class TestFalse:
    def test_the_check_is_run(self, checked: list[Any]) -> None:
        rows = [delivery(), delivery(endpoint=endpoint()), delivery(amount=1000)]

        one_pass(Delivery)

        assert states(rows) == ["delivered"] * 3
        assert sorted(checked) == [row.pk for row in rows]

    def test_among_others_of_which_one_is_true(self, checked: list[Any]) -> None:
        paused = endpoint(paused=True)
        rows = [delivery(endpoint=paused if number % 3 == 0 else None) for number in range(30)]

        one_pass(Delivery)

        assert states(rows) == (["held"] + ["delivered"] * 2) * 10
        assert len(checked) == 20

    def test_a_check_may_not_ask_for_what_a_guard_decides(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(deliveries.DELIVERIES, "deliver", lambda row: "held")
        row = delivery()

        one_pass(Delivery)

        assert fresh(row).state == "pending"
        assert reason(row) == (
            "django_fsmworker.exceptions.UndeclaredTransition: DeliveryStates.check_pending "
            "returned held, to which only a guard leads; declare pending.transitions_to(held) "
            "without when=, too, or return None."
        )


class TestAsync:
    """Guards come before checks of either kind."""

    def test_guards_are_asked_before_an_async_check(self, monkeypatch: pytest.MonkeyPatch) -> None:
        new, plain = ErrandStates.new, ErrandStates.plain
        monkeypatch.setitem(new.node.__dict__, "guards", guards_of(new, (plain, Q(value=1))))
        rows = Errand.objects.bulk_create(Errand(value=number % 2) for number in range(10))

        one_pass(Errand)

        assert states(rows) == ["done", "plain"] * 5


class TestBatches:
    """A batch is what is left of its rows."""

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
        """The keys of the rows that each call of the check got."""
        calls: list[list[Any]] = []

        def post(rows: list[Letter]) -> Any:
            calls.append([row.pk for row in rows])
            return dict.fromkeys(rows, "done")

        new = LetterStates.new
        monkeypatch.setitem(CHECKS, "new", post)
        guards = guards_of(new, (LetterStates.waiting, Q(value=1)))
        monkeypatch.setitem(new.node.__dict__, "guards", guards)
        return calls

    def test_rows_that_no_guard_decides_stay_together(self, calls: list[list[Any]]) -> None:
        rows = Letter.objects.bulk_create(Letter(value=number % 2) for number in range(20))

        one_pass(Letter)

        assert states(rows) == ["done", "waiting"] * 10
        assert calls == [[row.pk for row in rows[::2]]]

    def test_a_batch_all_of_whose_rows_are_moved_calls_no_check(
        self, calls: list[list[Any]]
    ) -> None:
        rows = Letter.objects.bulk_create(Letter(value=1) for _ in range(20))

        one_pass(Letter)

        assert states(rows) == ["waiting"] * 20
        assert calls == []

    def test_in_a_test_s_own_thread(self, calls: list[list[Any]]) -> None:
        rows = Letter.objects.bulk_create(Letter(value=number % 2) for number in range(20))

        assert run_until_idle(Letter) == 20

        assert states(rows) == ["done", "waiting"] * 10
        assert calls == [[row.pk for row in rows[::2]]]


class TestTimeouts:
    """In ``held``, whose rows are claimed for their timeout only."""

    def test_guards_come_first(self, told: Any) -> None:
        """The row is a suspect and failing, so no sweep looks at it."""
        row = delivery("held", endpoint=endpoint(paused=False))
        entered(row, 700)
        lapse([row], times=2)
        one_pass(Delivery)

        assert told == [(row.pk, "held", "pending", "guard")]

    def test_the_timeout_if_none_is_true(self, told: Any) -> None:
        row = delivery("held", endpoint=endpoint(paused=True))
        entered(row, 700)
        Delivery.objects.filter(pk=row.pk).update(state_next=row.state_changed)

        one_pass(Delivery)

        assert told == [(row.pk, "held", "gone", "timeout")]

    def test_nothing_is_due_yet(self) -> None:
        """A stray due time is set right; there is no check that could be run."""
        row = delivery("held", endpoint=endpoint(paused=True), state_next=None)
        Delivery.objects.filter(pk=row.pk).update(state_next=row.state_changed)

        runner = one_pass(Delivery)

        assert str(runner.counters).startswith("moved=0 stayed=1 failed=0")
        assert 590 < due_in(row) <= 600


class TestFailing:
    def test_the_row_fails_as_if_its_check_had_raised(self, checked: list[Any], told: Any) -> None:
        row = delivery(amount=UNASKABLE)

        runner = one_pass(Delivery)

        assert fresh(row).state == "pending"
        assert fresh(row).state_failures == 1
        assert 50 < due_in(row) <= 60
        assert "out of range" in reason(row) or "overflow" in reason(row)
        assert checked == []
        assert told == [(row.pk, "pending", 1)]
        assert str(runner.counters).startswith("moved=0 stayed=0 failed=1")

    def test_the_others_do_not_suffer(self, checked: list[Any]) -> None:
        amounts = [UNASKABLE if number in (3, 17) else number * 100 for number in range(20)]
        rows = [delivery(amount=amount) for amount in amounts]

        one_pass(Delivery)

        expected = ["delivered"] * 11 + ["signing"] * 9
        expected[3] = expected[17] = "pending"
        assert states(rows) == expected
        assert len(checked) == 10
        assert set(Delivery.objects.failing()) == {rows[3], rows[17]}

    def test_in_the_end_it_goes_to_the_failure_state(self, travel: Callable[..., None]) -> None:
        row = delivery(amount=UNASKABLE)

        one_pass(Delivery)
        travel(61)
        one_pass(Delivery)

        assert path(row) == ["pending", "gone"]

    def test_a_guard_that_recovers_moves_the_row(self, travel: Callable[[float], None]) -> None:
        row = delivery(amount=UNASKABLE)
        one_pass(Delivery)
        Delivery.objects.filter(pk=row.pk).update(amount=5000)

        travel(61)
        one_pass(Delivery)

        assert path(row) == ["pending", "signing"]
        record = failure(row)
        assert record is not None
        assert record.resolved is not None

    def test_halved_until_the_row_to_blame_stands_alone(self, vendor: str) -> None:
        keys = [delivery(amount=UNASKABLE if number == 5 else 0).pk for number in range(64)]
        connection.ensure_connection()
        sent: list[str] = []

        def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            sent.append(sql)
            return execute(sql, params, many, context)

        with connection.execute_wrapper(note):
            found = decisions(store_for("default"), Delivery, PENDING.guards, keys)

        assert list(found) == [keys[5]]
        assert isinstance(found[keys[5]], Exception)
        # All, and at each of six levels the half with it, and the other one. MariaDB and MySQL are
        # asked about one guard after the other.
        assert len(sent) == (26 if vendor == "mysql" else 13)

    def test_a_guard_that_is_wrong_fails_all_and_asks_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong = guards_of(PENDING, (HELD, Q(nothing_of_the_kind=True)))
        keys = [delivery().pk for _ in range(20)]

        found = decisions(store_for("default"), Delivery, wrong, keys)

        assert set(found) == set(keys)
        assert len({str(error) for error in found.values()}) == 1


class TestCost:
    @pytest.mark.parametrize(("number", "most"), [(1, 1), (200, 3)])
    def test_one_statement_for_all_rows_that_a_claim_brought(self, number: int, most: int) -> None:
        Delivery.objects.bulk_create(Delivery() for _ in range(number))

        with statements() as sent:
            one_pass(Delivery, concurrency=200)

        # Two guards in one statement; MariaDB and MySQL are asked about each by itself.
        word = "ABS" if connection.vendor == "mysql" else "COALESCE"
        asked = [sql for sql in sent.sent if word in sql and sql.startswith("SELECT")]
        assert 1 <= len(asked) <= most
        assert not Delivery.objects.exclude(state="delivered").exists()

    def test_a_model_without_guards_has_none_of_the_threads(
        self, start_runner: Start, eventually: Eventually
    ) -> None:
        older = set(threading.enumerate())
        runner = start_runner(Noop)
        eventually(lambda: runner.runner.status().rounds)

        names = {thread.name for thread in threading.enumerate() if thread not in older}

        assert "fsmworker-renewer" in names
        assert not {"fsmworker-guarding", "fsmworker-sweeping"} & names
        assert runner.runner.parts.queue is runner.runner.parts.ready

    def test_rows_do_not_go_on_into_a_state_with_guards(self) -> None:
        """There guards are asked of many rows at once, after a claim."""
        from django_fsmworker.runner.in_flight.attempts import attempts_at

        delivery("held", endpoint=endpoint(paused=True))
        Delivery.objects.update(state_next=None)
        row = delivery("held")
        Delivery.objects.filter(pk=row.pk).update(state_next=row.state_changed)
        (claimed,) = claim(Delivery)
        store = store_for("default")
        (attempt,) = attempts_at(store, Delivery, [claimed], sent=0.0, lease=30.0)
        run_on = RunOn(30.0)

        pair = attempt, moved(claimed, "pending", delay=0.0)

        assert run_on.parted([pair]) == ([], [pair])


class TestApart:
    """A guard may look at any table; what happens there is no other model's affair."""

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_table_that_is_locked(
        self, start_runner: Start, eventually: Eventually, start_thread: Callable[..., Any]
    ) -> None:
        paused = endpoint(paused=True)
        row, other = delivery(endpoint=paused), Noop.objects.create()

        with TableLocker(start_thread, paused):
            runner = start_runner(Delivery, Noop)
            eventually(lambda: fresh(other).state == "done")
            more = Noop.objects.create()
            eventually(lambda: fresh(more).state == "done")
            eventually(lambda: fresh(row).state_claim is not None)
            assert fresh(row).state == "pending"
        eventually(lambda: fresh(row).state == "held")

        eventually(lambda: runner.total("moved") == 3)

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_runner_that_stops_meanwhile_hands_the_rows_back(
        self,
        start_runner: Start,
        eventually: Eventually,
        start_thread: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("django_fsmworker.runner.stator_runner.GUARD_PATIENCE", 0.2)
        paused = endpoint(paused=True)
        row = delivery(endpoint=paused)

        with TableLocker(start_thread, paused):
            runner = start_runner(Delivery, drain_timeout=0.2)
            eventually(lambda: fresh(row).state_claim is not None)
            runner.stop()
            assert fresh(row).state_claim is None
            assert fresh(row).state_failures == 0
        one_pass(Delivery)

        assert fresh(row).state == "held"

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_connection_that_is_ended_while_the_guard_is_asked(
        self,
        start_runner: Start,
        eventually: Eventually,
        start_thread: Callable[..., Any],
        server: Any,
    ) -> None:
        paused = endpoint(paused=True)
        row = delivery(endpoint=paused)

        with TableLocker(start_thread, paused):
            start_runner(Delivery)
            eventually(lambda: fresh(row).state_claim is not None)
            eventually(lambda: server.end_waiting() == 1)
        eventually(lambda: fresh(row).state == "held")

        assert fresh(row).state_failures == 0
        assert failure(row) is None

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_row_keeps_its_lease_while_a_slow_guard_is_asked(
        self, start_runner: Start, eventually: Eventually, start_thread: Callable[..., Any]
    ) -> None:
        paused = endpoint(paused=True)
        row = delivery(endpoint=paused)

        with TableLocker(start_thread, paused):
            runner = start_runner(Delivery, lease=6.0)
            eventually(lambda: fresh(row).state_claim is not None)
            claimed = fresh(row)
            eventually(lambda: fresh(row).state_lease > claimed.state_lease, 30)
            assert fresh(row).state_claim == claimed.state_claim
        eventually(lambda: fresh(row).state == "held")

        eventually(lambda: runner.total("moved") == 1)
        assert runner.total("superseded") == 0
        assert fresh(row).state_failures == 0

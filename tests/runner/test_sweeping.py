"""States without a check: sweeps move the rows of which a guard is true."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.models import BooleanField, Q
from django.db.models.expressions import Func

from django_fsmworker.models.hints import _quiet_until
from django_fsmworker.runner.guards import schedule, sweep
from django_fsmworker.runner.guards.sweeper import Sweeper
from django_fsmworker.signals import check_failed, state_changed
from tests.app.models import Delivery, DeliveryStates, Endpoint, Noop, Receipt
from tests.app.models.deliveries import UNASKABLE
from tests.runner.deliveries import delivery, endpoint, guards_of, signed
from tests.runner.embedded import Embedded, one_pass
from tests.runner.locking import Locker, TableLocker
from tests.runner.rows import due_in, entered, failure, fresh, lapse, path, reason, states

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]
Travel = Callable[[float], None]

HELD, SIGNING = DeliveryStates.held, DeliveryStates.signing
PENDING, GONE = DeliveryStates.pending, DeliveryStates.gone
# Sooner than the next sweep that nobody asks for: these come about a minute apart.
SOON = 30.0


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


@pytest.fixture
def other_guards(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``other_guards(state, (target, when), …)``: these instead of its own."""

    def replace(state: Any, *conditions: Any) -> None:
        monkeypatch.setitem(state.node.__dict__, "guards", guards_of(state, *conditions))

    return replace


class TestOneSweep:
    def test_rows_move_where_the_first_guard_that_is_true_leads(self, told: Any) -> None:
        removed = endpoint(removed=True, paused=False)
        rows = [
            delivery("held", endpoint=endpoint()),
            delivery("held", endpoint=endpoint(paused=True)),
            delivery("held", endpoint=removed),
            delivery("held"),
        ]

        runner = one_pass(Delivery)

        assert states(rows) == ["pending", "held", "gone", "held"]
        assert sorted(told) == sorted(
            [(rows[0].pk, "held", "pending", "guard"), (rows[2].pk, "held", "gone", "guard")]
        )
        assert str(runner.counters).startswith("moved=2 stayed=0 failed=0")

    def test_a_moved_row_is_as_after_any_transition(self) -> None:
        row = delivery("signing", state_next=None)
        signed(row)
        signed(row)

        one_pass(Delivery)

        now = fresh(row)
        assert path(row) == ["signing", "delivered"]
        assert (now.state_next, now.state_claim, now.state_failures) == (None, None, 0)
        assert now.state_changed > row.state_changed

    def test_window_by_window(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sweep, "WINDOW_ROWS", 4)
        open_, paused = endpoint(), endpoint(paused=True)
        rows = [delivery("held", endpoint=paused if n % 3 else open_) for n in range(30)]

        one_pass(Delivery)

        assert states(rows) == ["pending", "held", "held"] * 10

    def test_rows_that_are_held_or_not_there_yet_are_left_alone(self) -> None:
        open_ = endpoint()
        claimed, other = delivery("held", endpoint=open_), delivery("pending", endpoint=open_)
        Delivery.objects.filter(pk=claimed.pk).update(
            state_claim=4, state_lease="2999-01-01T00:00Z", state_next="2999-01-01T00:00Z"
        )
        Delivery.objects.filter(pk=other.pk).update(state_next="2999-01-01T00:00Z")

        one_pass(Delivery)

        assert states([claimed, other]) == ["held", "pending"]

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_locked_row_waits_for_the_next_sweep(self, locked: Callable[[Any], Locker]) -> None:
        open_ = endpoint()
        rows = [delivery("held", endpoint=open_) for _ in range(3)]

        with locked(rows[1]):
            one_pass(Delivery)
            assert states(rows) == ["pending", "held", "pending"]
        one_pass(Delivery)

        assert fresh(rows[1]).state == "pending"

    def test_a_single_pass_takes_each_row_one_step(self) -> None:
        """What it moves is due after its beginning, and left for the next pass."""
        row = delivery("held", endpoint=endpoint())

        one_pass(Delivery)
        assert path(row) == ["held", "pending"]

        one_pass(Delivery)
        assert path(row) == ["held", "pending", "delivered"]

    def test_other_models_are_not_swept(self) -> None:
        row = delivery("held", endpoint=endpoint())

        one_pass(Noop)

        assert fresh(row).state == "held"

    def test_a_receiver_that_raises_ends_no_sweep(self, caplog: pytest.LogCaptureFixture) -> None:
        def leave(**kwargs: Any) -> None:
            raise SystemExit

        row = delivery("held", endpoint=endpoint())
        state_changed.connect(leave, sender=Delivery)
        try:
            one_pass(Delivery)
        finally:
            state_changed.disconnect(leave, sender=Delivery)

        assert fresh(row).state == "pending"
        assert "A signal's receiver failed." in caplog.messages


class TestTimeouts:
    def test_fire_where_no_guard_is_true(self, travel: Travel) -> None:
        row = delivery("held", endpoint=endpoint(paused=True))

        travel(601)
        one_pass(Delivery)

        assert path(row) == ["held", "gone"]

    def test_come_after_guards(self, travel: Travel) -> None:
        row = delivery("held", endpoint=endpoint())

        travel(601)
        one_pass(Delivery)

        assert path(row) == ["held", "pending"]


class TestFailing:
    """The second guard of ``signing`` cannot be asked about ``UNASKABLE``."""

    def test_the_row_to_blame_fails_and_the_others_move(
        self, told: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sweep, "WINDOW_ROWS", 7)
        amounts = [UNASKABLE if number in (4, 11) else number * 200 for number in range(20)]
        rows = [delivery("signing", amount=amount) for amount in amounts]

        runner = one_pass(Delivery)

        expected = ["pending"] * 6 + ["signing"] * 14
        expected[4] = "signing"
        assert states(rows) == expected
        assert set(Delivery.objects.failing()) == {rows[4], rows[11]}
        assert [each for each in told if len(each) == 3] == [
            (rows[4].pk, "signing", 1),
            (rows[11].pk, "signing", 1),
        ]
        assert str(runner.counters).startswith("moved=5 stayed=0 failed=2")

    def test_it_is_on_record_and_due_after_its_backoff(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        row = delivery("signing", amount=UNASKABLE)

        one_pass(Delivery)

        assert "out of range" in reason(row) or "overflow" in reason(row)
        assert fresh(row).state_failures == 1
        assert 50 < due_in(row) <= 60
        assert any(
            text.startswith(f"tests.Delivery {row.pk} failed in the state signing: ")
            for text in caplog.messages
        )

    def test_sweeps_leave_it_to_claims(self) -> None:
        row = delivery("signing", amount=UNASKABLE)
        one_pass(Delivery)
        signed(row)

        one_pass(Delivery)

        assert fresh(row).state == "signing"
        assert failure(row).count == 1  # type: ignore[union-attr]

    def test_it_moves_at_the_next_try(self, travel: Travel) -> None:
        row = delivery("signing", amount=UNASKABLE)
        one_pass(Delivery)
        signed(row)

        travel(61)
        one_pass(Delivery)

        assert path(row) == ["signing", "delivered"]
        assert failure(row).resolved is not None  # type: ignore[union-attr]

    def test_it_is_swept_again_once_the_guard_can_be_asked(self, travel: Travel) -> None:
        row = delivery("signing", amount=UNASKABLE)
        one_pass(Delivery)
        Delivery.objects.filter(pk=row.pk).update(amount=5000)

        travel(61)
        one_pass(Delivery)

        now = fresh(row)
        assert (now.state, now.state_failures, now.state_next) == ("signing", 0, None)
        assert failure(row).resolved is not None  # type: ignore[union-attr]

    def test_in_the_end_it_goes_to_the_failure_state(self, travel: Travel) -> None:
        row = delivery("signing", amount=UNASKABLE)

        one_pass(Delivery)
        travel(61)
        one_pass(Delivery)

        assert path(row) == ["signing", "gone"]

    def test_at_once_with_one_attempt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SIGNING, "max_attempts", 1)
        row = delivery("signing", amount=UNASKABLE)

        one_pass(Delivery)

        assert path(row) == ["signing", "gone"]
        assert failure(row) is not None

    def test_parked_it_is_not_asked_about_any_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SIGNING, "max_attempts", 1)
        monkeypatch.setitem(SIGNING.node.__dict__, "failure", None)
        row = delivery("signing", amount=UNASKABLE)
        one_pass(Delivery)
        signed(row)

        one_pass(Delivery)

        assert (fresh(row).state, fresh(row).state_next) == ("signing", None)
        assert failure(row).count == 1  # type: ignore[union-attr]

    def test_a_row_whose_target_the_database_refuses(
        self, other_guards: Callable[..., None]
    ) -> None:
        """What a trigger or a constraint says of the new state fails the row, too."""
        other_guards(HELD, (GONE, Q(amount__gt=0)))
        rows = [delivery("held", amount=amount) for amount in (1, 13, 2)]

        with constraint("amount <> 13 OR state <> 'gone'"):
            one_pass(Delivery)

        assert states(rows) == ["gone", "held", "gone"]
        assert "django.db.utils.IntegrityError" in reason(rows[1])

    def test_a_row_that_the_database_lets_nobody_write(
        self, other_guards: Callable[..., None], caplog: pytest.LogCaptureFixture
    ) -> None:
        other_guards(HELD, (GONE, Q(amount__gt=0)))
        rows = [delivery("held", amount=amount) for amount in (1, 13, 2)]

        with constraint("amount <> 13", valid=False):
            one_pass(Delivery)

        assert states(rows) == ["gone", "held", "gone"]
        assert fresh(rows[1]).state_failures == 0
        said = (
            f"The database refuses every write to tests.Delivery {rows[1].pk}; its guards are "
            f"asked again in the next sweep."
        )
        assert caplog.messages.count(said) == 1


class constraint:
    """``with constraint(condition):`` the table of deliveries has it.

    Without ``valid`` rows that do not keep it may be there already.
    """

    def __init__(self, condition: str, valid: bool = True) -> None:
        self._condition = condition
        self._valid = valid

    def __enter__(self) -> None:
        trigger = f"""
            CREATE TRIGGER delivery_refused BEFORE UPDATE ON tests_delivery
            WHEN NOT (NEW.{self._condition.replace(" state", " NEW.state")})
            BEGIN SELECT RAISE(ABORT, 'refused'); END
        """
        added = f"""
            ALTER TABLE tests_delivery ADD CONSTRAINT delivery_refused CHECK ({self._condition})
        """
        if connection.vendor == "sqlite":
            self._execute(trigger)
        elif self._valid:
            self._execute(added)
        elif connection.vendor == "postgresql":
            self._execute(f"{added} NOT VALID")
        else:
            self._execute("SET check_constraint_checks = OFF")
            self._execute(added)
            self._execute("SET check_constraint_checks = ON")

    def __exit__(self, *exception: object) -> None:
        dropped = "ALTER TABLE tests_delivery DROP CONSTRAINT delivery_refused"
        self._execute("DROP TRIGGER delivery_refused" if connection.vendor == "sqlite" else dropped)

    def _execute(self, sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)


class TestRunning:
    """A runner sweeps from time to time, and sooner where rows come in."""

    @pytest.fixture(autouse=True)
    def rests_briefly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Otherwise the first sweep, which connects, is followed by twenty times as long a rest."""
        monkeypatch.setattr(schedule, "REST", 1)

    def test_first_right_after_its_start(self, start_runner: Start, eventually: Eventually) -> None:
        row = delivery("held", endpoint=endpoint())

        runner = start_runner(Delivery)
        eventually(lambda: fresh(row).state == "delivered", SOON)

        eventually(lambda: runner.total("moved") == 2)

    def test_then_every_retry_after(
        self, start_runner: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(HELD, "retry_after", 0.3)
        paused = endpoint(paused=True)
        row = delivery("held", endpoint=paused)
        start_runner(Delivery, hints=False)
        eventually(at_rest)

        Endpoint.objects.filter(pk=paused.pk).update(paused=False)

        eventually(lambda: fresh(row).state == "delivered", SOON)

    def test_soon_when_a_row_comes_in_through_this_runner(
        self, start_runner: Start, eventually: Eventually
    ) -> None:
        start_runner(Delivery, hints=False)
        eventually(at_rest)
        open_ = endpoint()

        row = delivery("pending", endpoint=open_, amount=5000)
        signed(row)

        eventually(lambda: path(row) == ["pending", "signing", "delivered"], SOON)

    def test_soon_when_a_sweep_brings_it_in(
        self, start_runner: Start, eventually: Eventually, other_guards: Callable[..., None]
    ) -> None:
        other_guards(HELD, (SIGNING, Q(endpoint__paused=False)))
        paused = endpoint(paused=True)
        row = delivery("held", endpoint=paused)
        signed(row)
        embedded = start_runner(Delivery, hints=False)
        eventually(at_rest)
        Endpoint.objects.update(paused=False)

        embedded.runner.parts.sweeper.hinted(Delivery)

        eventually(lambda: path(row) == ["held", "signing", "delivered"], SOON)

    @pytest.mark.postgresql  # MariaDB and MySQL have no hints
    @pytest.mark.sqlite
    @pytest.mark.parametrize("how", ["create", "bulk", "save", "transition", "queryset"])
    def test_soon_when_another_process_brings_it_in(
        self, start_runner: Start, eventually: Eventually, how: str, start_thread: Any
    ) -> None:
        _quiet_until.clear()
        row = delivery("gone")
        signed(row)
        embedded = start_runner(Delivery, poll_interval=120.0)
        eventually(lambda: embedded.runner.hints.active)
        eventually(at_rest)

        row = start_thread(bring_in, row, how).result()

        eventually(lambda: fresh(row).state == "delivered", SOON)

    def test_after_each_sweep_it_rests(
        self,
        start_runner: Start,
        eventually: Eventually,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """However often it is asked to: after each sweep it rests."""
        monkeypatch.setattr(schedule, "REST", 1_000_000)
        swept: list[Any] = []
        began = schedule.SweepSchedule.begin

        def begin(times: Any) -> None:
            swept.append(times)
            began(times)

        monkeypatch.setattr(schedule.SweepSchedule, "begin", begin)
        embedded = start_runner(Delivery)
        eventually(lambda: len(swept) == 2)

        for _ in range(50):
            embedded.runner.parts.sweeper.hinted(Delivery)
        row = delivery("pending")
        eventually(lambda: fresh(row).state == "delivered")

        assert len(swept) == 2

    def test_a_large_state_does_not_hold_up_a_small_one(
        self, start_runner: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They take turns, window by window."""
        monkeypatch.setattr(sweep, "WINDOW_ROWS", 2)
        order: list[Any] = []
        step = sweep.Sweep.step

        def note(each: Any) -> None:
            order.append(each._state.name)
            step(each)

        monkeypatch.setattr(sweep.Sweep, "step", note)
        paused = endpoint(paused=True)
        for _ in range(10):
            delivery("held", endpoint=paused)
        delivery("signing", amount=5000)

        start_runner(Delivery)
        eventually(lambda: order.count("held") >= 5)

        assert order.index("signing") == 1

    def test_it_ends_with_its_runner(
        self, start_runner: Start, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not after the sweep, but after the window that is under way."""
        monkeypatch.setattr(sweep, "WINDOW_ROWS", 1)
        seen = threading.Event()
        go_on = threading.Event()
        step = sweep.Sweep.step

        def slow(each: Any) -> None:
            seen.set()
            go_on.wait(30)
            step(each)

        monkeypatch.setattr(sweep.Sweep, "step", slow)
        rows = [delivery("held", endpoint=endpoint()) for _ in range(20)]
        embedded = start_runner(Delivery)
        assert seen.wait(30)

        embedded.runner.stop()
        eventually(lambda: embedded.runner.parts.sweeper._stopped)
        go_on.set()
        embedded.stop()

        assert states(rows).count("held") == 19
        assert "fsmworker-sweeping" not in {thread.name for thread in threading.enumerate()}


def at_rest() -> bool:
    """Whether every sweep has ended: its thread waits."""
    threads = [each for each in threading.enumerate() if isinstance(each, Sweeper)]
    places = [place for thread in threads for place in thread._states]
    return bool(places) and all(place.sweep is None and place.schedule._busy for place in places)


def bring_in(row: Any, how: str) -> Any:
    if how == "transition":
        row.state_transition("signing")
    elif how == "queryset":
        Delivery.state_transition_queryset(Delivery.objects.filter(pk=row.pk), "signing")
    elif how == "save":
        row.state = "signing"
        row.save()
    elif how == "create":
        row = Delivery.objects.create(state="signing", amount=0)
    else:
        (row,) = Delivery.objects.bulk_create([Delivery(state="signing")])
    if how in ("create", "bulk"):  # without a receipt its second guard is true
        assert not Receipt.objects.filter(delivery=row).exists()
    return row


class TestTrouble:
    def test_a_guard_that_is_wrong_keeps_no_other_state_from_being_swept(
        self,
        start_runner: Start,
        eventually: Eventually,
        other_guards: Callable[..., None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        other_guards(HELD, (GONE, Q(nothing_of_the_kind=True)))
        held, row = delivery("held"), delivery("signing")

        start_runner(Delivery)
        eventually(lambda: fresh(row).state == "delivered")

        said = "The guards of <State DeliveryStates.held> cannot be asked; trying again."
        eventually(lambda: said in caplog.messages)
        assert fresh(held).state == "held"
        assert failure(held) is None

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_guard_that_the_database_does_not_understand(
        self, other_guards: Callable[..., None], caplog: pytest.LogCaptureFixture
    ) -> None:
        """No row is to blame, so the window is not halved."""
        unknown = Func("amount", function="no_such_function", output_field=BooleanField())
        other_guards(HELD, (GONE, unknown))
        held = [delivery("held") for _ in range(3)]

        one_pass(Delivery)

        said = "The guards of <State DeliveryStates.held> cannot be asked; trying again."
        assert caplog.messages.count(said) == 1
        assert not Delivery.objects.failing().exists()
        assert states(held) == ["held"] * 3

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_database_that_goes_away(
        self,
        start_runner: Start,
        eventually: Eventually,
        server: Any,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(HELD, "retry_after", 0.2)
        paused = endpoint(paused=True)
        row = delivery("held", endpoint=paused)
        runner = start_runner(Delivery)
        eventually(at_rest)
        connection.close()

        with server.away():
            eventually(lambda: any("is away (" in text for text in caplog.messages), 30)
        eventually(lambda: any(text.endswith("is back.") for text in caplog.messages), 30)
        connection.close()
        Endpoint.objects.update(paused=False)
        eventually(lambda: fresh(row).state == "delivered")

        assert runner.alive
        assert failure(row) is None

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_locked_table_holds_up_no_check(
        self, start_runner: Start, eventually: Eventually, start_thread: Callable[..., Any]
    ) -> None:
        paused = endpoint(paused=True)
        delivery("held", endpoint=paused)
        row = Noop.objects.create()

        with TableLocker(start_thread, paused):
            start_runner(Delivery, Noop)
            eventually(lambda: fresh(row).state == "done")

    def test_a_row_that_lapsed_while_its_timeout_was_run(self) -> None:
        """Nobody has it: the guard may move it, and the claim is gone."""
        row = delivery("held", endpoint=endpoint())
        entered(row, 30)
        lapse([row])

        one_pass(Delivery)

        assert fresh(row).state == "pending"
        assert fresh(row).state_claim is None

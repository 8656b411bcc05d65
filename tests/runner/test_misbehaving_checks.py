"""Whatever a check does, the runner goes on at full strength and the record says what it was."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction

from django_fsmworker.models.records import FailureRecord
from tests.app.models import Trouble, TroubleStates, trouble
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import due_in, failure, fresh, reason, states

pytestmark = pytest.mark.django_db(transaction=True)

ERRORS = "django_fsmworker.exceptions"
OVERRAN = f"{ERRORS}.TimeoutError: The check did not end within its deadline; it ran for "

REFUSED = {
    "raise": "RuntimeError: the moon is in the wrong house",
    "system_exit": "SystemExit: 1",
    "undeclared": f"{ERRORS}.UndeclaredTransition: TroubleStates.check_new returned new, which is "
    "not declared; declare new.transitions_to(new).",
    "unknown_name": f"{ERRORS}.UnknownState: 'nirvana' is not a state of TroubleStates; "
    f"its states are: {', '.join(TroubleStates.states)}.",
    "other_type": "TypeError: TroubleStates.check_new returned 42; "
    "a check returns a state, the name of one, or None.",
}


class Scene:
    """More rows that misbehave than the runner has threads, and rows beside them that do not.

    Those are in another state, which has time: a machine may stand still for a short deadline.
    """

    threads = 2

    def __init__(
        self,
        start_runner: Callable[..., Embedded],
        eventually: Callable[..., Any],
        monkeypatch: pytest.MonkeyPatch,
    ):
        self._start_runner = start_runner
        self._eventually = eventually
        self._monkeypatch = monkeypatch

    def start(
        self, mode: str, value: int = 0, deadline: float | None = None, beside: str = "patient"
    ) -> list[Trouble]:
        """Run them; those that misbehave have so many seconds."""
        self._monkeypatch.setattr(TroubleStates.states["new"], "deadline", deadline)
        self.bad = [Trouble.objects.create(mode=mode, value=value) for _ in range(self.threads + 1)]
        self.good = [Trouble.objects.create(state=beside) for _ in range(10)]
        self.runner = self._start_runner(Trouble, concurrency=self.threads)
        return self.bad

    def eventually(self, condition: Callable[[], Any]) -> None:
        self._eventually(condition, 30)

    def all_of(self, condition: Callable[[Trouble], Any]) -> None:
        self.eventually(lambda: all(condition(row) for row in self.bad))

    def abandoned(self) -> int:
        """How many checks were interrupted and do not end."""
        return self.runner.runner.status().threads.abandoned

    def at_full_strength(self) -> None:
        """The rows beside them are done, no thread is missing, and new rows are run."""
        self.eventually(lambda: set(states(self.good)) == {"done"})
        self.eventually(self._no_thread_is_missing)
        late = [Trouble.objects.create(state="patient") for _ in range(self.threads * 2)]
        self.eventually(lambda: set(states(late)) == {"done"})
        self.eventually(self._no_thread_is_missing)
        assert self.runner.alive
        for row in self.good + late:
            assert failure(row) is None

    def _no_thread_is_missing(self) -> bool:
        assert self.runner.working_threads() == self.threads, (
            f"the threads are {threading.enumerate()}"
        )
        return True


@pytest.fixture
def scene(
    start_runner: Callable[..., Embedded],
    eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:
    return Scene(start_runner, eventually, monkeypatch)


def tried_again_in_a_minute(row: Trouble) -> None:
    now = fresh(row)
    assert (now.state, now.state_failures, now.state_claim) == ("new", 1, None)
    assert 20 < due_in(row) <= 60  # with what has passed since


@pytest.mark.parametrize("mode", REFUSED)
def test_what_a_check_raises_or_returns_is_recorded(scene: Scene, mode: str) -> None:
    bad = scene.start(mode)

    scene.all_of(failure)
    scene.at_full_strength()

    for row in bad:
        assert reason(row) == REFUSED[mode]
        tried_again_in_a_minute(row)


def test_an_outcome_that_breaks_a_constraint_fails_its_row_only(scene: Scene) -> None:
    bad = scene.start("break_constraint", 13)

    scene.all_of(failure)
    scene.at_full_strength()

    for row in bad:
        assert reason(row).startswith("django.db.utils.IntegrityError: ")
        assert "trouble_done_never_13" in reason(row)
        tried_again_in_a_minute(row)


def test_a_check_that_overruns_its_deadline(scene: Scene) -> None:
    bad = scene.start("loop", deadline=0.3)

    scene.all_of(lambda row: fresh(row).state_failures)
    scene.at_full_strength()

    for row in bad:
        assert reason(row).startswith(OVERRAN)
        tried_again_in_a_minute(row)


def test_a_check_that_overruns_its_deadline_where_nothing_reaches_it(
    scene: Scene, mode: Callable[..., None]
) -> None:
    awake = threading.Event()
    mode("sleep", lambda row: awake.wait(60) and "done")
    bad = scene.start("sleep", deadline=0.3)

    scene.eventually(lambda: scene.abandoned() == len(bad))
    scene.at_full_strength()
    awake.set()
    scene.all_of(lambda row: fresh(row).state_failures)

    for row in bad:
        assert reason(row).startswith(OVERRAN)
        tried_again_in_a_minute(row)


@pytest.fixture
def enough(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Ends the checks that swallow everything."""
    event = threading.Event()
    monkeypatch.setattr(trouble, "had_enough", event)
    yield event.set
    event.set()


@pytest.mark.once
def test_a_check_that_swallows_everything_keeps_its_row_until_it_ends(
    enough: Callable[[], None], scene: Scene
) -> None:
    bad = scene.start("swallow", 60, deadline=0.3)

    scene.all_of(failure)
    scene.at_full_strength()
    assert [fresh(row).state_failures for row in bad] == [0, 0, 0], "they still run"
    enough()
    scene.all_of(lambda row: fresh(row).state_failures)

    for row in bad:
        assert reason(row).startswith(OVERRAN)
        tried_again_in_a_minute(row)


@pytest.mark.postgresql
@pytest.mark.mysql
def test_a_check_that_waits_for_a_lock(scene: Scene, locked: Callable[[Any], Any]) -> None:
    held = Trouble.objects.create(state="waiting")

    with locked(held):
        bad = scene.start("wait_for_lock", held.pk, deadline=0.3)
        scene.all_of(lambda row: fresh(row).state_failures)
        scene.at_full_strength()

    for row in bad:
        assert reason(row).startswith(OVERRAN)
        tried_again_in_a_minute(row)


@pytest.mark.sqlite
def test_a_check_that_waits_for_the_locked_file(
    scene: Scene, locked: Callable[[Any], Any], mode: Callable[..., None]
) -> None:
    held = Trouble.objects.create(state="waiting")
    entered = []

    def wait(row: Trouble) -> str:
        entered.append(row.pk)
        while not locking:
            time.sleep(0.01)
        Trouble.objects.filter(pk=row.pk).update(value=1)
        return "done"

    locking: list[bool] = []
    mode("wait", wait)
    bad = scene.start("wait", deadline=0.8, beside="new")
    # The runner has nothing to ask while the file is locked, which would make it an outage: it has
    # all the rows it claims ahead, and renews no lease. (In a lane of their own, those that do not
    # misbehave would be claimed at once, and settled.)
    scene.eventually(lambda: scene.runner.runner.status().threads.waiting == scene.threads)
    scene.eventually(lambda: len(entered) == scene.threads)
    with locked(held):
        locking.append(True)
        scene.eventually(lambda: scene.abandoned() == 2)
    scene.all_of(lambda row: fresh(row).state_failures or fresh(row).state == "done")
    scene.at_full_strength()

    for row in bad[:2]:
        assert reason(row).startswith(OVERRAN)
        tried_again_in_a_minute(row)


def test_a_check_that_deletes_its_own_row(scene: Scene, eventually: Callable[..., Any]) -> None:
    bad = scene.start("delete_itself")

    eventually(lambda: not Trouble.objects.filter(pk__in=[row.pk for row in bad]).exists())
    scene.at_full_strength()

    assert not FailureRecord.objects.exists()
    eventually(lambda: scene.runner.total("superseded") == len(bad))


def test_a_check_that_leaves_a_transaction_open(scene: Scene) -> None:
    bad = scene.start("leave_transaction_open")

    scene.all_of(failure)
    scene.at_full_strength()

    for row in bad:
        assert reason(row) == (
            f"{ERRORS}.TransactionLeftOpen: The check left a transaction open, which was rolled "
            f"back; end it with commit() or use transaction.atomic()."
        )
        assert fresh(row).value == 0, "what it wrote was not committed"
        tried_again_in_a_minute(row)


def test_a_check_that_overruns_in_a_transaction_leaves_nothing_behind(
    scene: Scene, mode: Callable[..., None]
) -> None:
    def loop_in_transaction(row: Trouble) -> None:
        with transaction.atomic():
            Trouble.objects.filter(pk=row.pk).update(value=7)
            while True:
                pass

    mode("loop_in_transaction", loop_in_transaction)
    bad = scene.start("loop_in_transaction", deadline=0.3)

    scene.all_of(lambda row: fresh(row).state_failures)
    scene.at_full_strength()

    assert {fresh(row).value for row in bad} == {0}


def test_a_name_is_as_good_as_the_state(scene: Scene) -> None:
    row = Trouble.objects.create(mode="by_name")

    one_pass(Trouble)

    assert fresh(row).state == "done"

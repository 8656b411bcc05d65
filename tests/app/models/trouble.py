"""Rows whose checks misbehave in every way a runner has to survive."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from django.db import connection, models, transaction

from django_fsmworker.exceptions import TryAgainLater
from django_fsmworker.graph import State, StateGraph, constant
from django_fsmworker.models import StateField, StateHistoryField, StatorModel

had_enough = threading.Event()


class TroubleStates(StateGraph):
    new = State(retry_after=60, max_attempts=3, backoff=constant(60))
    patient = State(retry_after=60)
    strict = State(retry_after=60, max_attempts=2, backoff=constant(60), atomic=True)
    waiting = State(manual=True)
    done = State()
    failed = State()

    new.transitions_to(done, patient, waiting)
    new.fails_to(failed)
    patient.transitions_to(done, strict)
    strict.transitions_to(done)
    strict.fails_to(failed)
    waiting.transitions_to(done)
    waiting.timeout_to(failed, seconds=30)

    @classmethod
    def check_new(cls, row: Trouble) -> Any:
        return MODES[row.mode](cls, row)

    @classmethod
    def check_patient(cls, row: Trouble) -> Any:
        return MODES[row.mode](cls, row)

    @classmethod
    def check_strict(cls, row: Trouble) -> Any:
        """Writes something first, so that one can see whether it was undone."""
        CheckLog.objects.create(row=str(row.pk), state=row.state, worker="strict", at=time.time())
        return MODES[row.mode](cls, row)


class Trouble(StatorModel):
    state = StateField(TroubleStates)
    state_history = StateHistoryField()
    mode = models.CharField(max_length=40, default="succeed")
    value = models.IntegerField(default=0)

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=~models.Q(state="done", value=13), name="trouble_done_never_13"
            ),
        )

    def __str__(self) -> str:
        return f"{self.mode} {self.pk}"


class CheckLog(models.Model):
    """What checks write themselves, as proof of what was run."""

    row = models.CharField(max_length=255)
    state = models.CharField(max_length=100)
    worker = models.CharField(max_length=100)
    at = models.FloatField()

    def __str__(self) -> str:
        return f"{self.row} in {self.state} by {self.worker}"


def log_check(row: Any) -> None:
    """Note that a check began, in a transaction of its own."""
    CheckLog.objects.create(
        row=str(row.pk), state=row.state, worker=str(os.getpid()), at=time.time()
    )


def sleep(states: Any, row: Trouble) -> Any:
    time.sleep(row.value)
    return states.done


def loop(states: Any, row: Trouble) -> Any:
    while True:
        pass


def wait_for_lock(states: Any, row: Trouble) -> Any:
    """Wait for a row that somebody else holds locked."""
    with transaction.atomic():
        Trouble.objects.select_for_update().get(pk=row.value)
    return states.done


def swallow(states: Any, row: Trouble) -> Any:
    """Catch whatever comes, and go on; for so many seconds, or until a test has had enough."""
    end, enough = time.monotonic() + row.value, had_enough
    while time.monotonic() < end and not enough.is_set():
        try:
            _busy_until(end, enough)
        except BaseException:
            continue
    return states.done


def _busy_until(end: float, enough: threading.Event) -> None:
    """In a function of its own: an injected exception arrives in here, where it is caught."""
    while time.monotonic() < end and not enough.is_set():
        pass


def raise_error(states: Any, row: Trouble) -> Any:
    raise RuntimeError("the moon is in the wrong house")


def raise_system_exit(states: Any, row: Trouble) -> Any:
    raise SystemExit(1)


def try_again(states: Any, row: Trouble) -> Any:
    raise TryAgainLater(row.value or None)


def delete_itself(states: Any, row: Trouble) -> Any:
    row.delete()
    return states.done


def leave_transaction_open(states: Any, row: Trouble) -> Any:
    connection.set_autocommit(False)
    Trouble.objects.filter(pk=row.pk).update(value=99)
    return states.done


def die(states: Any, row: Trouble) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(states: Any, row: Trouble) -> Any:
    """End the process as a wrong configuration does."""
    os._exit(1)


def slow(states: Any, row: Trouble) -> Any:
    time.sleep(0.3)
    return states.done


def wait_for_value(states: Any, row: Trouble) -> Any:
    """Note that it began, and wait until somebody writes a value to the row."""
    log_check(row)
    while not Trouble.objects.filter(pk=row.pk, value__gt=0).exists():
        time.sleep(0.02)
    return states.done


MODES: dict[str, Any] = {
    "slow": slow,
    "wait_for_value": wait_for_value,
    "exit": leave,
    "succeed": lambda states, row: states.done,
    "by_name": lambda states, row: "done",
    "stay": lambda states, row: None,
    "to_patient": lambda states, row: states.patient,
    "to_waiting": lambda states, row: states.waiting,
    "undeclared": lambda states, row: states.new,
    "unknown_name": lambda states, row: "nirvana",
    "other_type": lambda states, row: 42,
    "break_constraint": lambda states, row: states.done,
    "sleep": sleep,
    "loop": loop,
    "wait_for_lock": wait_for_lock,
    "swallow": swallow,
    "raise": raise_error,
    "system_exit": raise_system_exit,
    "try_again": try_again,
    "delete_itself": delete_itself,
    "leave_transaction_open": leave_transaction_open,
    "die": die,
}

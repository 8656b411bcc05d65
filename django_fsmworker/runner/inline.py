"""What a row's own verbs do without a runner: at once, on the caller's thread and connection.

The rules of an attempt are the runner's: for atomicity, for refusals by the database, for what goes
on record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from django.apps import apps
from django.db import DatabaseError, router
from django.db.models import QuerySet

from django_fsmworker.bulk.running import begin, run
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.diagnosis.explaining import explain
from django_fsmworker.events.delivering import deliver
from django_fsmworker.events.endings import pending, wake_rows
from django_fsmworker.events.submission import Submission
from django_fsmworker.events.submitting import submit_event, submit_for
from django_fsmworker.graph import State
from django_fsmworker.graph.durations import earliest
from django_fsmworker.models.discovery import refuse_not_run
from django_fsmworker.models.engine import Dialect
from django_fsmworker.models.entering import gives_up_claim
from django_fsmworker.models.event import named
from django_fsmworker.models.explanation import Explanation
from django_fsmworker.models.fields import present_columns
from django_fsmworker.models.hints import hint_due, hint_entered
from django_fsmworker.models.keys import declaring_model, stored
from django_fsmworker.models.transition import StateChange
from django_fsmworker.models.transition_log import LoggedMove
from django_fsmworker.runner.execution.atomic import run_and_write
from django_fsmworker.runner.execution.check_run import CheckRun, Errors, refuse_running_loop
from django_fsmworker.runner.execution.guards import guard_outcome
from django_fsmworker.runner.execution.middleware import around_events, around_inline
from django_fsmworker.runner.execution.outcomes import OutcomeBuilder
from django_fsmworker.runner.execution.writing import (
    expiries_of,
    send_after_commit,
    signals_of,
    write_or_fail,
)
from django_fsmworker.runner.identity import process_name
from django_fsmworker.store import Fence, Lane, Outcome, Store, dialect_of, store_for
from django_fsmworker.store.errors import chain, is_contention, is_refusal
from django_fsmworker.store.expiry import expire
from django_fsmworker.store.failures import Failure
from django_fsmworker.store.hints import HintTransport, hint_transport_for
from django_fsmworker.store.transition_log import log_move, log_moves

Ended = TypeVar("Ended")


class InlineEngine:
    """Installed behind ``models.engine``."""

    def claim(self, model: Any, number: int, lease: float, using: str) -> list[Any]:
        """Claim up to ``number`` due rows, oldest first whatever their states."""
        refuse_not_run([model])
        lanes = [Lane(state, number) for state in model.state_graph.states]
        store = store_for(using)
        rows = store.claim(model, lanes, lease)
        self._hand_back(store, model, rows[number:])
        return rows[:number]

    def check(self, row: Any) -> State | None:
        """Ask the row's guards, or run its check, and write what came of it.

        The state it moved to, or None: it stayed, it failed, or somebody was faster, since the
        write is fenced by state and token as loaded.
        """
        model = declaring_model(type(row))
        refuse_running_loop([model], "state_transition_check()")
        using = router.db_for_write(model, instance=row)
        deferred = row.get_deferred_fields().intersection(present_columns(type(row)))
        if deferred:  # the check begins with all of them, as they are where they will be written
            row.refresh_from_db(using=using, fields=deferred)
        if row.state_claim is not None:  # to be written where it was claimed
            using = row._state.db
        outcome = attempt_inline(store_for(using), row, process_name(), [])
        if stored(row, using).exists():
            StateChange(row, using).read_back()
        if outcome is None:
            return None
        send_after_commit(signals_of(model, [outcome], using), using)
        hint_due(model, using, earliest(outcome.delay, outcome.timeout))
        hint_entered(model, using, [outcome.target] if outcome.moved else [])
        target: State = model.state_graph.states[outcome.target]
        return target if outcome.moved else None

    def explain(self, row: Any) -> Explanation:
        """Why the row does not move."""
        return explain(row)

    def expire(self, model: Any, using: str) -> int:
        """Delete one batch a state of what has outlived it; how many rows went."""
        refuse_not_run([model])
        model = declaring_model(model)  # a proxy's rows are deleted as those of its model
        store, limit, number = store_for(using), RunnerSettings.load().delete_batch, 0
        for state in model.state_graph.deletion_states:
            deleted = expire(store, model, state, limit, (), process_name()).deleted
            send_after_commit(expiries_of(model, deleted, state.name, using), using)
            number += len(deleted)
        return number

    def submit(self, target: Any, trigger: str, context: Any, **options: Any) -> int:
        """Write a durable event of one row; the key of its record."""
        return submit_event(target, trigger, context, **options)

    def submit_for(self, rows: Any, trigger: str, context: Any, **options: Any) -> int:
        """Write one for each row of a queryset; how many."""
        return submit_for(rows, Submission(None, trigger, context, **options))

    def deliver(self, events: list[Any]) -> list[Any]:
        """Deliver claimed events; the answer of the check for each."""
        answers: dict[int, Any] = {}
        by_model: dict[str, list[Any]] = {}
        for event in events:
            by_model.setdefault(event.model, []).append(event)
        for label, some in by_model.items():
            store = store_for(some[0]._state.db)
            around = around_events(process_name())
            answers |= deliver(store, apps.get_model(label), some, process_name(), around)
        return [answers[event.pk] for event in events]

    def begin_bulk(self, action: Any) -> Any:
        """See how many rows a bulk action is for; the answer of its check."""
        return begin(action)

    def run_bulk(self, action: Any) -> Any:
        """Do a bulk action to some of its rows; the answer of its check."""
        return run(action)

    def has_events(self, model: Any, using: str) -> bool:
        """Whether there are events for rows of ``model`` that have not come to an end."""
        return pending(using).filter(model=model._meta.label).exists()

    def wake_events(self, model: Any, keys: Iterable[Any], using: str) -> None:
        """Make the events due that wait for these rows of ``model``."""
        wake_rows(using, model._meta.label, [named(model, key)[1] for key in keys])

    def hint_transport(self, using: str) -> HintTransport | None:
        """The database's transport, unless what it carries is not sent."""
        transport = hint_transport_for(using)
        return transport if transport is not None and transport.is_sent else None

    def log_move(self, row: QuerySet[Any], move: LoggedMove) -> bool:
        """Log that a row is moved, and lock it; False if there is none."""
        return log_move(row, move)

    def log_moves(self, model: Any, moves: Sequence[LoggedMove], using: str) -> None:
        """Log moves of rows that are locked."""
        log_moves(using, model, moves)

    def is_contention(self, error: BaseException) -> bool:
        """Whether two transactions were in each other's way."""
        return is_contention(error)

    def dialect(self, connection: Any) -> Dialect:
        """What the ORM has to be told about the database of this connection."""
        return dialect_of(connection)

    @staticmethod
    def _hand_back(store: Any, model: Any, rows: list[Any]) -> None:
        if rows:
            store.hand_back(model, [Fence.of(row) for row in rows])


def attempt_inline(store: Store, row: Any, worker: str, caught: Errors) -> Outcome | None:
    """Ask the guards of ``row`` or run its check, and write what came of it.

    The write is fenced by state and token as loaded; None if somebody was faster. What the attempt
    failed with is added to ``caught``. Raises the error of a database that refuses every write.
    """
    gives_up_claim(row)
    age, builder = age_of(store, row), OutcomeBuilder.of_row(row)

    def run() -> Outcome:
        decided = guard_outcome(store, row, age, caught)
        return decided or CheckRun(builder, age, caught, around_inline(row, worker)).run_here()

    outcome: Outcome | None
    if builder.state.atomic:
        try:
            outcome = run_and_write(store, declaring_model(type(row)), run, worker)
        except DatabaseError as error:
            if not is_refusal(error) or store.mismatch(declaring_model(type(row)), error):
                raise
            caught.append(error)
            outcome = builder.failed(Failure.of(error), age)
        if outcome is None:
            _release(store, Fence(builder.pk, builder.token, builder.state.name), row)
        if outcome is None or outcome.written:
            return outcome
    else:
        outcome = unless_broken(store, run, [caught])
    if outcome.written:
        note_settled(outcome, caught)
        return outcome
    return write_inline(store, outcome, worker, caught)


def note_settled(outcome: Outcome, caught: Errors) -> None:
    """Note what a check has met that wrote the failure of its row itself."""
    if outcome.failure is not None and outcome.failure.exception is not None:
        caught.append(outcome.failure.exception)


def write_inline(store: Store, outcome: Outcome, worker: str, caught: Errors) -> Outcome | None:
    """Write the outcome, or the failure in its place; returns it, None if somebody was faster."""
    written = write_or_fail(store, declaring_model(type(outcome.row)), [outcome], worker)
    caught += written.refusals
    if written.unwritable:
        raise written.refusals[-1]
    if not written.keys:
        _release(store, Fence(outcome.pk, outcome.token, outcome.source), outcome.row)
        return None
    return written.replaced.get(outcome.pk, outcome)


def _release(store: Store, fence: Fence, row: Any) -> None:
    """Free a claimed row that somebody moved under its check, which has ended."""
    if fence.token is not None:
        store.release(declaring_model(type(row)), [fence])


def unless_broken(store: Store, run: Callable[[], Ended], caught: Iterable[Errors]) -> Ended:
    """``run()``; a database error in it does not break the transaction around it, if there is one.

    It is looked for in ``caught``: the run reports its errors and raises none. What it wrote is
    then rolled back.
    """
    connection = store.connection
    if not connection.in_atomic_block:
        return run()
    savepoint: Any = connection.savepoint()
    ended = run()
    errors = (each for some in caught for error in some for each in chain(error))
    if any(isinstance(each, DatabaseError) for each in errors):
        connection.set_rollback(False)
        connection.savepoint_rollback(savepoint)
    else:
        connection.savepoint_commit(savepoint)
    return ended


def age_of(store: Store, row: Any) -> float:
    """Seconds since the row entered its state, by the database's clock."""
    age: float = (store.now() - row.state_changed).total_seconds()
    return age

"""One transaction that delivers the events of some rows: locked, in order, all of it or nothing.

The rows take turns, one event of each a round, so that what is written, and read again, is written
and read for all of them at once.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from django.db.models import QuerySet

from django_fsmworker.events.crossings import Deadlock
from django_fsmworker.events.endings import Wait, end, fail, pending, postpone, wake_rows
from django_fsmworker.events.line import ASKED_FOR_LATER, Line, has_failed
from django_fsmworker.events.meddling import refuse_meddling
from django_fsmworker.events.overrun import Overrun
from django_fsmworker.events.reading import read_fired
from django_fsmworker.events.refusing import SENTENCES
from django_fsmworker.events.senders import Sender, senders_of
from django_fsmworker.events.user_code import Surrounding, UserCode
from django_fsmworker.exceptions import (
    GraphError,
    Refusal,
    Retry,
    TimeoutError,
    TryAgainLater,
    answer_in,
)
from django_fsmworker.graph import EventInfo, EventTransition
from django_fsmworker.graph.durations import as_seconds
from django_fsmworker.models.acting import act
from django_fsmworker.models.choosing import choose
from django_fsmworker.models.engine import engine
from django_fsmworker.models.entering import claim_after_move, entering, lease_after_move
from django_fsmworker.models.event import Event, EventStates
from django_fsmworker.models.fields import forget_changes, present_columns
from django_fsmworker.models.hints import hint_due, hint_entered, hint_revoked
from django_fsmworker.models.keys import key_from, key_of, with_keys
from django_fsmworker.models.resolving import resolve_failures
from django_fsmworker.models.telling import send_state_changed
from django_fsmworker.models.transition_log import by_hand, logs_transitions
from django_fsmworker.store import Ending, Settled, Store
from django_fsmworker.store.errors import is_deadlock, is_outage, tells_of
from django_fsmworker.store.failures import Failure, dropped, record, survived
from django_fsmworker.store.session_watch import session_changed

PENDING, DELIVERED, DISCARDED, FAILED = (
    EventStates.pending.name,
    EventStates.delivered.name,
    EventStates.discarded.name,
    EventStates.failed.name,
)

# Seconds after which no further event is begun in a transaction: the rows are locked meanwhile.
BUDGET = 1.0
MOST_TRIES = 3
HELD_WAIT = 5.0
LAPSE_SLACK = 0.5

Move = tuple[Any, Event]  # a row, by its key, and what moves it


class _Changed(Exception):
    """Something is not as it was read; what was done is rolled back, and begun anew, with care.

    ``lasting`` is what has gone wrong if it is so each time.
    """

    def __init__(self, lasting: Exception | None = None) -> None:
        super().__init__()
        self.lasting = lasting


class Delivery:
    """The delivery of ``claimed`` events of ``model``, and of those that come before them.

    ``apart``: one event is tried only, so that the transaction locks what that one needs.
    """

    def __init__(
        self,
        store: Store,
        model: Any,
        claimed: Sequence[Event],
        worker: str,
        overrun: Overrun,
        until: float,
        around: Surrounding,
        *,
        apart: bool,
    ) -> None:
        self._store, self._alias, self._around = store, store.alias, around
        self._apart = apart
        self._model, self._graph = model, model.state_graph
        self._keeps_traces = "state_trace" in present_columns(model)
        self._label: str = model._meta.label
        self._claimed = {event.pk: event for event in claimed}
        # Such an event comes alone.
        self._alone = next((event.pk for event in claimed if has_failed(event)), None)
        self._worker, self._overrun, self._latest = worker, overrun, until
        self._careful = False
        self._begin()

    @property
    def progressed(self) -> bool:
        """Whether anything was written."""
        return bool(self._ends or self._fails or self._waits)

    def run(self) -> dict[int, Any]:
        """Deliver; the answers of the check by key, without those of events that had no turn."""
        lasting: Exception | None = None
        for _ in range(MOST_TRIES):
            self._begin()
            try:
                with self._store.transaction(max(0.0, self._latest - time.monotonic())):
                    self._deliver()
                self._overrun.forget(self._alias, [event.pk for event, *_ in self._fails])
                return self._answered()
            except _Changed as changed:
                lasting = changed.lasting
                self._careful = True
            self.leave_session()
        if lasting is not None:
            raise lasting
        return {}

    def leave_session(self) -> None:
        """Give up the connection if an action has changed its session, outside a transaction.

        It is no session for the code of other rows.
        """
        if session_changed(self._store.connection):
            self._store.connection.close()

    def _begin(self) -> None:
        self._user_code = UserCode(self._alias, self._model, self._flush)
        self._answers: dict[int, Any] = {}
        self._ends: defaultdict[tuple[str, str], list[Event]] = defaultdict(list)
        self._fails: list[tuple[Event, int, float, Failure]] = []
        self._waits: dict[int, Wait] = {}
        self._moves: defaultdict[tuple[str, str, str], list[Move]] = defaultdict(list)
        self._entered: dict[int, datetime] = {}
        self._moved: list[tuple[Any, Event, EventTransition]] = []
        self._revoked: list[Any] = []
        self._recovered: list[int] = []
        self._senders: dict[int, Sender] = {}
        self._revokes = False
        self._locked_at: float | None = None

    def _deliver(self) -> None:
        lines = self._lines(self._lock())
        self._senders = senders_of(event for line in lines for event in line.events)
        going, until = lines, min(time.monotonic() + BUDGET, self._latest)
        is_over = False  # one event is tried at least
        while going and not is_over:
            for line in going:
                self._refresh([line])
                event = line.next()
                if event is not None:
                    self._try(line, event)
                    # What an action sets in the transaction is not for the code of other rows.
                    is_over = self._apart or self._user_code.changed or time.monotonic() >= until
                if is_over:
                    break
            self._flush()
            going = [line for line in going if not line.finished]
            self._refresh(going)
        for line in lines:
            if line.hold_for is not None:
                wait = Wait(line.hold_for)
                self._waits |= {event.pk: wait for event in line.held_up()}
        self._write_ends()
        for line in lines:
            if line.moved and line.partial:
                wake_rows(self._alias, self._label, [line.events[0].row_hash])
        self._announce()

    # Reading.

    def _lock(self) -> dict[tuple[int, str], Any]:
        """Lock the rows of the claimed events that nobody else has locked, in key order."""
        names = {(each.row_hash, each.row) for each in self._claimed.values()}
        keys = {key_from(self._model, row): (number, row) for number, row in sorted(names)}
        rows, now = self._store.locked_rows(self._model, list(keys))
        if now is not None:
            self._now, self._locked_at = now, time.monotonic()
        found = {key_of(row): row for row in rows}
        if missing := [key for key in keys if key not in found]:
            self._without_rows(missing, keys)
        return {keys[key]: row for key, row in found.items()}

    def _without_rows(self, missing: list[Any], keys: dict[Any, tuple[int, str]]) -> None:
        """The events of rows that are gone have ended; those of locked rows have no turn."""
        rows: QuerySet[Any] = QuerySet(self._model, using=self._alias)
        there = set(rows.filter(with_keys(self._model, missing)).values_list("pk", flat=True))
        gone = {keys[key] for key in missing if key not in there}
        for event in self._claimed.values():
            name = event.row_hash, event.row
            if name in gone:
                self._ends[DISCARDED, "Its row is gone."].append(event)

    def _lines(self, rows: dict[tuple[int, str], Any]) -> list[Line]:
        if not rows:
            return []
        now = self._now
        grouped: defaultdict[tuple[int, str], list[Event]] = defaultdict(list)
        for event in self._claimed.values():
            if event.fires_at > now and (event.row_hash, event.row) in rows:  # made due by hand
                self._waits[event.pk] = Wait((event.fires_at - now).total_seconds())
        events, partial = read_fired(self._store, self._label, rows, now)
        for event in events:
            grouped[event.row_hash, event.row].append(event)
        return [
            Line(
                rows[name],
                events,
                self._claimed,
                now,
                ordered=self._graph.event_order == "row",
                alone=self._alone,
                partial=partial,
            )
            for name, events in grouped.items()
            if name in rows  # not that of another row with the same hash
        ]

    def _refresh(self, lines: Sequence[Line]) -> None:
        """Read rows again that may have changed; one that is gone takes no further events."""
        writes = self._user_code.writes
        lines = [line for line in lines if line.stale or line.writes != writes]
        if not lines:
            return
        rows: QuerySet[Any] = QuerySet(self._model, using=self._alias)
        keys = [line.key for line in lines]
        found = {key_of(row): row for row in rows.filter(with_keys(self._model, keys))}
        for line, key in zip(lines, keys, strict=True):
            if key in found:
                line.read_again(found[key], writes)
            else:
                line.stop()

    # Trying.

    def _try(self, line: Line, event: Event) -> None:
        if self._careful and not pending(self._alias).filter(pk=event.pk).exists():
            line.ended(event)  # an action has just cancelled it
            return
        if event.expires_at is not None and event.expires_at <= self._now:
            self._end(line, event, DISCARDED, "It has expired.")
            return
        try:
            if fault := self._overrun.fault_of(self._alias, event.pk):
                raise fault
            taken = self._user_code.call(partial(self._called, line, event), line.key)
        except Exception as error:
            if tells_of(error, is_deadlock):
                raise Deadlock from error
            if isinstance(error, _Changed) or self._is_lost(error):
                raise
            self._failed(line, event, error)
            return
        except TimeoutError:
            self._overrun.note(self._alias, event.pk)
            raise
        if isinstance(taken, EventTransition):
            self._taken(line, event, taken)
        elif taken == "running":
            line.hold_for = HELD_WAIT
            line.stop()
        else:
            self._refused(line, event, taken)

    def _called(self, line: Line, event: Event) -> EventTransition | Refusal:
        taken = self._around(line.row, event, self._take)
        if self._careful and isinstance(taken, EventTransition):
            refuse_meddling(self._alias, self._model, line.key, event, taken)
        return taken  # type: ignore[no-any-return]

    def _take(self, row: Any, event: Event) -> EventTransition | Refusal:
        by, user = self._senders[event.pk]
        info = EventInfo(
            trigger=event.trigger,
            context=event.context,
            by=by,
            submitted=event.submitted,
            id=event.pk,
        )
        edge = choose(row, info, user)
        if not isinstance(edge, EventTransition):
            return edge
        if self._is_held(row) and not edge.interrupts:
            return "running"
        act(row, edge, info)
        return edge

    def _is_held(self, row: Any) -> bool:
        lease = row.__dict__["state_lease"]
        return lease is not None and lease > self._now

    def _is_lost(self, error: Exception) -> bool:
        """Whether the transaction is gone, not only what the event has done."""
        return self._store.connection.needs_rollback or tells_of(error, is_outage)

    def _taken(self, line: Line, event: Event, edge: EventTransition) -> None:
        row, key = line.row, line.key
        held = self._is_held(row)
        self._revokes |= held
        line.stale |= self._user_code.sent
        if edge.target is not None:
            trace = (event.trace or "") if self._keeps_traces else ""
            self._moves[edge.source.name, edge.target.name, trace].append((key, event))
            self._entered[event.pk] = row.__dict__["state_changed"]
            self._moved.append((key, event, edge))
            row.__dict__["state"] = edge.target.name
            forget_changes(row)
            line.stale = True
        elif held:
            self._revoked.append(key)
            line.stale = True
        self._end(line, event, DELIVERED, moved=edge.target is not None)

    def _refused(self, line: Line, event: Event, reason: Refusal) -> None:
        """What the graph says becomes of events that the row does not take."""
        unhandled = self._graph.unhandled_of(event.trigger)
        sentence = SENTENCES[reason].format(state=line.row.__dict__["state"])
        if unhandled == "retry":
            self._waits[event.pk] = Wait.of_refused(event, self._now, sentence)
            if event.state_failures:
                self._recovered.append(event.pk)
            line.step_over(event)
            return
        self._end(line, event, DISCARDED if unhandled == "discard" else FAILED, sentence)

    def _failed(self, line: Line, event: Event, raised: Exception) -> None:
        error = answer_in(raised)
        line.stale = True  # what the action has assigned
        if isinstance(error, TryAgainLater):
            delay = EventStates.pending.retry_after if error.delay is None else error.delay
            line.hold_for = as_seconds(delay, "delay")
            self._waits[event.pk] = Wait(line.hold_for, ASKED_FOR_LATER)
            line.failed(event)
            return
        failures, failure = event.state_failures + 1, Failure.of(error)
        if failures >= event.max_attempts:
            self._fails.append((event, failures, 0.0, failure))
            self._end(line, event, FAILED, failure.sentence)
            return
        wait = EventStates.pending.retry_delay(failures)
        if isinstance(error, Retry):
            try:
                wait = as_seconds(error.after, "after")
            except GraphError as wrong:
                failure = Failure.of(wrong)
        self._fails.append((event, failures, wait, failure))
        line.hold_for = wait
        line.failed(event)

    def _end(
        self, line: Line, event: Event, state: str, reason: str = "", *, moved: bool = False
    ) -> None:
        self._waits.pop(event.pk, None)
        self._ends[state, reason].append(event)
        line.ended(event, moved=moved)

    # Writing.

    def _flush(self) -> None:
        """Write the transitions that have been put off."""
        moves, self._moves = self._moves, defaultdict(list)
        rows: QuerySet[Any] = QuerySet(self._model, using=self._alias)
        for (source, target, trace), some in moves.items():
            keys = [key for key, _ in some]
            self._log(source, target, some)
            written = rows.filter(with_keys(self._model, keys), state=source).update(
                **entering(self._model, self._graph.states[target], trace=partial(str, trace))
            )
            if written != len(keys):
                raise _Changed(RuntimeError(dropped(target).message))
            resolve_failures(self._model, keys, self._alias)
        if self._revoked:
            claim = {"state_lease": lease_after_move(None), "state_claim": claim_after_move(None)}
            rows.filter(with_keys(self._model, self._revoked)).update(**claim)
            self._revoked = []

    def _log(self, source: str, target: str, moves: Iterable[tuple[Any, Event]]) -> None:
        """Log the moves that are about to be written, if there is a log."""
        if not logs_transitions(self._model):
            return
        state, entries = self._graph.states[target], []
        for key, event in moves:
            by = self._senders[event.pk][0]
            logging = by_hand(state, "event", by, "", event.trigger)
            entered = self._entered[event.pk]
            entries.append(logging(key, source=source, entered=entered, worker=self._worker))
        engine().log_moves(self._model, entries, self._alias)

    def _write_ends(self) -> None:
        for (state, reason), events in self._ends.items():
            keys = [event.pk for event in events]
            if end(self._alias, keys, state, reason) != len(keys):
                raise _Changed  # one of them was cancelled a moment ago
            outcome = Settled(Ending.MOVED, state)
            self._answers |= dict.fromkeys(keys, outcome)
        recovered = self._recovered + [
            event.pk
            for (state, _), events in self._ends.items()
            for event in events
            if state != FAILED and (event.state_failures or self._may_have_lapsed(event))
        ]
        if recovered:
            resolve_failures(Event, recovered, self._alias)
        self._write_failures()
        suspects = {pk for pk, event in self._claimed.items() if event.state_failures}
        unharmed = [pk for pk in suspects if pk in self._waits]
        postpone(self._alias, self._waits)
        if unharmed:
            survived(self._alias, Event, unharmed)
        for pk, wait in self._waits.items():
            self._answers[pk] = Settled(Ending.STAYED, PENDING, wait.seconds)

    def _may_have_lapsed(self, event: Event) -> bool:
        """Whether somebody may have taken the event over, as a suspect, since it was read."""
        if event.state_lease is None or self._locked_at is None:
            return event.state_lease is not None
        left = (event.state_lease - self._now).total_seconds()
        return left < time.monotonic() - self._locked_at + LAPSE_SLACK

    def _write_failures(self) -> None:
        for event, failures, wait, failure in self._fails:
            for_good = failures >= event.max_attempts
            if not for_good and not fail(self._alias, event.pk, failures, wait, failure.sentence):
                raise _Changed
            self._answers[event.pk] = Settled(
                Ending.FAILED,
                FAILED if for_good else PENDING,
                None if for_good else wait,
                0 if for_good else failures,
                failures,
                failure,
            )
        if self._fails:
            noted = [(event.pk, PENDING, failure) for event, _, _, failure in self._fails]
            gone = {
                event.pk: FAILED
                for event, failures, *_ in self._fails
                if failures >= event.max_attempts
            }
            record(self._alias, Event, noted, self._worker, gone)
            survived(self._alias, Event, [event.pk for event, *_ in self._fails])

    def _announce(self) -> None:
        """Hints and signals, after the commit."""
        targets = dict.fromkeys(edge.target for _, _, edge in self._moved)
        for target in targets:
            hint_due(self._model, self._alias, target.first_due)  # type: ignore[union-attr]
        if targets:
            hint_entered(self._model, self._alias, targets)
        if self._revokes:
            hint_revoked(self._model, self._alias)
        for key, event, edge in self._moved:
            send_state_changed(
                self._model,
                [(key, edge.source.name)],
                edge.target.name,  # type: ignore[union-attr]
                self._alias,
                "event",
                by=self._senders[event.pk][0],
                trigger=event.trigger,
            )

    # Answering.

    def _answered(self) -> dict[int, Any]:
        """An answer for each claimed event that came to its turn, or that others have ended."""
        left = [pk for pk in self._claimed if pk not in self._answers]
        if left:
            there = set(pending(self._alias).filter(pk__in=left).values_list("pk", flat=True))
            for pk in left:
                if pk not in there:
                    self._answers[pk] = self._ended_by_others(self._claimed[pk])
        return {pk: answer for pk, answer in self._answers.items() if pk in self._claimed}

    @staticmethod
    def _ended_by_others(event: Event) -> Any:
        """The answer; of a suspect, the settler looks who has it, and takes back its note."""
        if event.state_failures:
            return TryAgainLater(HELD_WAIT, keep_failures=True)
        return Settled(Ending.STAYED, PENDING)

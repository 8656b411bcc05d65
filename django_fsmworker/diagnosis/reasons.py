"""Each reason for which a row does not move: a function that looks at its situation.

A claim takes a row that is in a state of its graph, is due, and is not held. Whatever keeps it from
that ``blocks``; the other reasons tell what has happened to the row, or what will.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from django_fsmworker import workers
from django_fsmworker.diagnosis.event_reasons import events
from django_fsmworker.diagnosis.limit_reasons import LIMIT_REASONS
from django_fsmworker.diagnosis.situation import Situation
from django_fsmworker.diagnosis.wording import when
from django_fsmworker.graph.conditions import condition_text
from django_fsmworker.graph.durations import span
from django_fsmworker.models.bulk_action import BulkAction
from django_fsmworker.models.companions import is_companion
from django_fsmworker.models.entering import is_revoked
from django_fsmworker.models.explanation import Reason
from django_fsmworker.models.fields import failures_of, is_parked_by_hand, life_ends
from django_fsmworker.store.fence import taken_over

# A due time that is no further from what a rule of the graph gives comes from that rule.
ALIKE = timedelta(seconds=1)


def unknown_state(of: Situation) -> Iterator[Reason]:
    """Its state is not one of this code's graph."""
    if of.state is None:
        graph = of.model.state_graph
        yield Reason(
            "unknown_state",
            f"{graph.__name__} does not declare the state {of.row.state}, so no runner with this "
            f"code takes the row.",
            f"Deploy the code that declares it, or rename the state with a data migration: "
            f"'manage.py stator plan {of.model._meta.label} --write-migration' writes one.",
            {"state": of.row.state, "declared": list(graph.states)},
        )


def running(of: Situation) -> Iterator[Reason]:
    """A runner holds it."""
    if of.is_held and not is_revoked(of.row.state_claim):
        again = ", for another try after its process had died" if _is_suspect(of) else ""
        holding = of.holding
        since = f" since {when(holding.since, of.now)}" if holding.since else ""
        worker = holding.worker
        what = (
            f"The worker {worker.id} (process {worker.pid} on {worker.host}) has run its "
            f"check{since}{again}"
            if worker
            else f"A runner holds it{since}: its check runs, or waits for a thread{again}"
        )
        yield Reason(
            "running",
            f"{what}; the lease lasts until {when(of.row.state_lease, of.now)} and is renewed "
            f"until then.",
            "Wait, or end the check with 'manage.py stator cancel', or state_cancel().",
            {
                "lease": of.row.state_lease,
                "suspect": _is_suspect(of),
                "worker": worker.id if worker else None,
                "since": holding.since,
            },
        )


def ending(of: Situation) -> Iterator[Reason]:
    """Its claim was revoked, and what ran then has not ended."""
    if of.is_held and is_revoked(of.row.state_claim):
        yield Reason(
            "ending",
            f"It was moved, parked or cancelled while a check ran on it, which is being ended; it "
            f"is free when that has ended, or at {when(of.row.state_lease, of.now)} if its runner "
            f"is gone.",
            "",
            {"lease": of.row.state_lease},
        )


def parked(of: Situation) -> Iterator[Reason]:
    """Nothing is due, since it failed for good, or since somebody wants it so."""
    if of.row.state_next is not None or not of.row.state_failures:
        return
    failure, unpark = of.failure, "'manage.py stator unpark', or state_unpark()"
    if is_parked_by_hand(of.row):
        by = failure.parked_by if failure else ""
        reason = failure.parked_reason if failure else ""
        at = failure.parked if failure else None
        yield Reason(
            "parked_by_hand",
            f"It was parked{f' by {by}' if by else ''}"
            f"{f' at {when(at, of.now)}' if at else ''}{f': {reason}' if reason else ''}.",
            f"Make it due again with {unpark}.",
            {"by": by, "reason": reason, "parked": at},
        )
    else:
        yield Reason(
            "parked",
            f"It failed {_in_a_row(failures_of(of.row))} and is not tried again{_last_error(of)}.",
            f"Mend the cause, then make it due again with {unpark}.",
            _evidence_of_failure(of),
        )


def terminal(of: Situation) -> Iterator[Reason]:
    """There is no way out of its state, but for being deleted."""
    if of.state is None or not of.state.terminal:
        return
    yield Reason(
        "terminal",
        f"The state {of.state} is terminal: no way leads out of it.",
        "Only code can move it, with state_transition().",
        blocks=not of.is_due,
    )


def deleting(of: Situation) -> Iterator[Reason]:
    """The row is deleted some day, or should have been."""
    if of.state is None or of.state.delete_after is None:
        return
    due = of.row.state_changed + timedelta(seconds=of.state.delete_after)
    if due > of.now:
        sentence, remedy = f"It is deleted at {when(due, of.now)}.", ""
    elif of.failure is not None:
        sentence = f"It was to be deleted at {when(due, of.now)}, and could not be{_last_error(of)}"
        sentence, remedy = f"{sentence}.", "Mend the cause; the deletion is tried again by itself."
    else:
        sentence = f"It is to be deleted since {when(due, of.now)}."
        remedy = "A runner that serves the model deletes it soon."
    evidence = {"due": due} | (_evidence_of_failure(of) if of.failure else {})
    yield Reason("deleting", sentence, remedy, evidence, blocks=False)


def manual(of: Situation) -> Iterator[Reason]:
    """Nothing is run in its state: it waits for code, or for an event."""
    if of.state is None or of.state.terminal or of.state.automatic:
        return
    events = list(of.state.node.events) if of.state.node else []
    targets = sorted(map(str, of.state.unguarded))
    waits = " or ".join(
        [f"the event{'s' if len(events) > 1 else ''} {', '.join(events)}"] * bool(events)
        + [f"code that moves it to {', '.join(targets)}"] * bool(targets)
    )
    yield Reason(
        "manual",
        f"The state {of.state} is manual: no check runs in it"
        f"{f', and the row waits for {waits}' if waits else ''}.",
        "Send it an event that it takes, or move it with state_move()."
        if events
        else "Move it with state_move().",
        {"events": events, "targets": targets},
        blocks=not of.is_due,
    )


def stranded(of: Situation) -> Iterator[Reason]:
    """Its check should run, and nothing is due."""
    row = of.row
    if of.state and of.state.checked and row.state_next is None and not row.state_failures:
        yield Reason(
            "stranded",
            f"A check runs in the state {of.state}, but nothing is due: the state was manual in an "
            f"older graph, or plain SQL has put the row here.",
            "A runner makes it due within some minutes; 'manage.py stator retry' does at once.",
        )


def later(of: Situation) -> Iterator[Reason]:
    """Its due time has not come."""
    row, state = of.row, of.state
    if state is None or row.state_next is None or of.is_due or of.is_held:
        return
    at, retry = when(row.state_next, of.now), "'manage.py stator retry' makes it due now."
    timeout = state.timeout_after
    evidence: dict[str, Any] = {"due": row.state_next}
    so_far = remedy = ""
    if failures_of(row):
        so_far = f", after it has failed {_times(failures_of(row))}{_last_error(of)}"
        remedy = retry
    if timeout is not None and _is(of, timeout):
        yield Reason(
            "timeout",
            f"Nothing is due before its timeout: it goes to {state.timeout_state} at {at}{so_far}.",
            remedy,
            evidence | {"target": str(state.timeout_state)},
        )
    elif state.lifetime_state is not None and row.state_next == life_ends(row):
        yield Reason(
            "lifetime",
            f"Nothing is due before its life ends: it goes to {state.lifetime_state} at "
            f"{at}{so_far}.",
            remedy,
            evidence | {"target": str(state.lifetime_state)},
        )
    elif failures_of(row):
        yield Reason(
            "backoff",
            f"It is tried again at {at}{so_far}.",
            remedy,
            evidence | _evidence_of_failure(of),
        )
    elif state.start_after and _is(of, state.start_after):
        yield Reason(
            "start_after",
            f"Its first check is at {at}: {span(state.start_after)} after it entered the state "
            f"{state}.",
            retry,
            evidence,
        )
    else:
        yield Reason(
            "later",
            f"Its check is next called at {at}: the last one left it where it is, or it was made "
            f"due then.",
            retry,
            evidence,
        )


def guards(of: Situation) -> Iterator[Reason]:
    """What the guards of its state say."""
    for edge in of.state.guards if of.state else ():
        answer = of.asked(edge)
        condition = condition_text(edge.when)
        evidence: dict[str, Any] = {"target": str(edge.target), "condition": condition}
        way = f"the guard to {edge.target} ({condition})"
        if answer is True:
            yield Reason(
                "guard_true",
                f"True is {way}: the next look of a runner moves it there.",
                "",
                evidence,
                blocks=False,
            )
            return  # those after it are not asked
        if answer is False:
            yield Reason(
                "guard_false",
                f"Not true is {way}.",
                f"It moves to {edge.target} when that is true.",
                evidence,
                blocks=False,
            )
        else:
            yield Reason(
                "guard_fails",
                f"The database cannot ask {way}: {_line(answer)}.",
                "Mend the row, or the condition.",
                evidence | {"error": str(answer)},
                blocks=False,
            )


def swept(of: Situation) -> Iterator[Reason]:
    """Sweeps look at it, which need no due time."""
    if of.state and of.state.swept and not of.row.state_failures and not of.is_due:
        yield Reason(
            "swept",
            f"No check runs in the state {of.state}: a runner asks its guards every "
            f"{span(of.state.retry_after)}, without claiming the row.",
            "",
            {"every": of.state.retry_after},
        )


def lapsed(of: Situation) -> Iterator[Reason]:
    """The process that held it died, or was cut off."""
    lease = of.row.state_lease
    if lease is not None and not of.is_held and not is_revoked(of.row.state_claim):
        deaths = of.failure.deaths if of.failure else 0
        yield Reason(
            "lapsed",
            f"Its lease ran out at {when(lease, of.now)}: the process that held it ended, or lost "
            f"its database; the next claim counts that as a failure.",
            "",
            {"lease": lease, "deaths": deaths},
            blocks=False,
        )


def due(of: Situation) -> Iterator[Reason]:
    """A claim would take it."""
    if of.state and of.is_due and not of.is_held:
        yield Reason(
            "due",
            f"It is due since {when(of.row.state_next, of.now)} and waits for a runner.",
            "See whether a runner that serves the model is alive, and whether it has free threads.",
            {"due": of.row.state_next},
            blocks=False,
        )


def unserved(of: Situation) -> Iterator[Reason]:
    """The row is due, and nobody runs rows of its model."""
    if not (of.state and of.state.automatic) or of.is_held:
        return
    label = of.row.model if is_companion(of.model) else of.model._meta.label
    serving = workers.serving(_served_as(of, label), databases=[of.store.alias])
    ready = [worker for worker in serving if worker.state == workers.WorkerStatus.READY]
    if ready:
        return
    states = sorted(f"{worker.id} ({worker.state})" for worker in serving)
    yield Reason(
        "unserved",
        f"No living worker runs rows of {label}"
        + (f" at the moment: {', '.join(states)}." if states else "."),
        "Resume a suspended one with 'manage.py stator workers resume'."
        if states
        else f"Start one: 'manage.py runstator {label}'.",
        {"workers": [worker.id for worker in serving]},
        blocks=False,
    )


def _served_as(of: Situation, label: str) -> str:
    """What a worker's record calls it, that runs such rows: who runs rows delivers their events."""
    return f"{of.model._meta.label}[{label}]" if issubclass(of.model, BulkAction) else label


def failing(of: Situation) -> Iterator[Reason]:
    """The row has failed, and is tried again; or its check has, and goes on all the same."""
    if of.is_held and _has_failed_already(of):
        yield Reason(
            "failing",
            f"The check that runs has failed already{_last_error(of)}.",
            "Nobody can end it from outside: give the call in which it is stuck a timeout, and "
            "restart its worker.",
            _evidence_of_failure(of),
            blocks=False,
        )
    elif of.row.state_failures > 0 and of.state and (of.is_due or of.is_held):
        yield Reason(
            "failing",
            f"It has failed {_in_a_row(failures_of(of.row))}{_last_error(of)}.",
            "",
            _evidence_of_failure(of),
            blocks=False,
        )


REASONS: tuple[Callable[[Situation], Iterator[Reason]], ...] = (
    unknown_state,
    running,
    ending,
    parked,
    terminal,
    deleting,
    manual,
    stranded,
    later,
    swept,
    guards,
    *LIMIT_REASONS,
    due,
    unserved,
    lapsed,
    failing,
    events,
)
"""All of them, in the order in which they are told."""


def _is_suspect(of: Situation) -> bool:
    return taken_over(of.row.state_claim)


def _has_failed_already(of: Situation) -> bool:
    """Whether a failure was put on record while the check ran: it did not end when it had to."""
    if of.failure is None or of.holding.since is None or is_revoked(of.row.state_claim):
        return False
    return of.failure.last_seen > of.holding.since


def _is(of: Situation, after: float) -> bool:
    """Whether the row is due so many seconds after it entered its state."""
    expected = of.row.state_changed + timedelta(seconds=after)
    return bool(abs(of.row.state_next - expected) < ALIKE)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _in_a_row(number: int) -> str:
    return "once" if number == 1 else f"{number} times in a row"


def _last_error(of: Situation) -> str:
    failure = of.failure
    return f": {failure.error}: {_line(failure.message)}" if failure else ""


def _line(text: object) -> str:
    return str(text).partition("\n")[0].strip().rstrip(".")


def _evidence_of_failure(of: Situation) -> dict[str, Any]:
    failure, evidence = of.failure, {"failures": failures_of(of.row)}
    if failure is None:
        return evidence
    return evidence | {
        "error": failure.error,
        "message": failure.message,
        "last_seen": failure.last_seen,
        "worker": failure.worker,
    }

"""What the columns of a row become when it enters a state, its claim included: defined here, once.

The ORM writes it when code moves rows. Settling, and a sweep where that is a single statement,
write it in each database's own SQL.

A transition of a row that is held does not free it: the check that runs on it would go on beside
that of the new state. It **revokes** the claim: the lease stays, and the token becomes another
number, by which the holder knows its own claim, revoked. The holder ends its check and then frees
the row; if it cannot, the lease lapses.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from django.db.models import BigIntegerField, Case, DateTimeField, F, Q, When
from django.db.models.functions import Coalesce, Least

from django_fsmworker.graph import State
from django_fsmworker.models.fields import LIFE_ENDS, has_life_ends, present_columns
from django_fsmworker.models.functions import AppendToHistory, DatabaseNow, leased

Term = TypeVar("Term")


def columns_entering(
    *,
    state: Term,
    now: Term,
    due: Callable[[Term], Term],
    failures: Term,
    lease: Term,
    claim: Term,
    history: Term | None,
    trace: Term | None = None,
    if_moved: Callable[[Term, str], Term] = lambda new, column: new,
) -> dict[str, Term]:
    """The terms to assign to a row's columns, in this order.

    Terms are the writer's: values and expressions of the ORM, or SQL. ``due`` makes the due time
    from the moment at which the row has entered its state: the earliest one of a delay from now, of
    a timeout from that moment and of the end of the row's life, NULL with none of them. ``history``
    is the one with the new entry, None where a model keeps none; ``trace``, what moves the row,
    None where the old one is to stay. A statement that also writes rows that stay in their state
    says with ``if_moved`` how it tells them: the new term, or what the column of that name holds.
    """
    entered = if_moved(now, "state_changed")
    kept = {} if history is None else {"state_history": if_moved(history, "state_history")}
    if trace is not None:
        kept["state_trace"] = if_moved(trace, "state_trace")
    return kept | {
        "state_changed": entered,
        "state_next": due(entered),
        "state": state,
        "state_failures": failures,
        "state_lease": lease,
        "state_claim": claim,
    }


def entering(
    model: Any,
    state: State,
    own: int | None = None,
    *,
    keep_failures: bool = False,
    unleased: bool = False,
    life_ends: Any = None,
    trace: Callable[[], str] | None = None,
) -> dict[str, Any]:
    """Values for ``QuerySet.update()``; the claim of a row that is held is revoked.

    ``own`` is the token of the mover's own claim, if it made one: that row is freed. The count of
    failures begins anew, unless it is to be kept. Rows that are known to be ``unleased`` have no
    claim to revoke, and what tells a claim is the dearest part of the statement. ``life_ends`` is
    written along, where the row's life is given another end. ``trace`` gives that of who moves the
    row, asked for a model that keeps it; None leaves the one that it has.
    """
    first_due, now = state.first_due, DatabaseNow()
    own_columns = present_columns(model)
    return columns_entering(
        state=state.name,
        now=now,
        due=lambda _: within_life(
            model,
            state,
            None if first_due is None else now + timedelta(seconds=first_due),
            life_ends,
        ),
        failures=F("state_failures") if keep_failures else 0,
        lease=None if unleased else lease_after_move(own),
        claim=None if unleased else claim_after_move(own),
        history=(
            AppendToHistory("state_history", state.name) if "state_history" in own_columns else None
        ),
        trace=trace() if trace is not None and "state_trace" in own_columns else None,
    )


def within_life(model: Any, state: State, due: Any, life_ends: Any = None) -> Any:
    """The due time of rows in ``state``, an expression or None, or the end of their life before it.

    ``life_ends`` is that end, if it is not what the column holds. For SQL, see ``Table.life_ends``.
    """
    if state.lifetime_state is None or not has_life_ends(model):
        return due
    ends = F(LIFE_ENDS) if life_ends is None else life_ends
    return ends if due is None else earlier(due, ends)


def earlier(one: Any, other: Any) -> Any:
    """The earlier of two moments, of which the other may be NULL.

    Of a NULL, ``Least()`` makes nothing in one database and NULL in the others.
    """
    moment = DateTimeField()
    return Least(one, Coalesce(other, one, output_field=moment), output_field=moment)


def due_at_life_end(model: Any, life_ends: Any) -> Any:
    """The due time of rows whose life is given another end: not after that, unless it is parked."""
    live = [name for name, state in model.state_graph.states.items() if state.lifetime_state]
    counts = Q(state__in=live) & Q(state_failures__gte=0)
    moment, due = DateTimeField(), F("state_next")
    sooner = Coalesce(earlier(life_ends, due), due, output_field=moment)
    return Case(When(counts, then=sooner), default=due, output_field=moment)


BY_HAND, MOVED = "fsmworker_claimed_by_hand", "fsmworker_moved"


def revoked(token: Any) -> Any:
    """The revoked form of a token, or of an expression of the ORM; below zero, as no token is."""
    return -1 - token


def revoked_sql(column: str) -> str:
    """The revoked form of the token in ``column``, in the SQL of every database."""
    return f"-1 - {column}"


def is_revoked(token: int | None) -> bool:
    """Whether the claim with this token was revoked."""
    return token is not None and token < 0


def lease_after_move(own: int | None) -> Case:
    """The lease of a row that code moves: held rows keep it; ``own`` is the mover's own token."""
    return Case(When(_held(own), then=F("state_lease")), default=None)


def claim_after_move(own: int | None) -> Case:
    """The token of a row that code moves: that of a held row is revoked, once."""
    held = _held(own)
    return Case(
        When(held & Q(state_claim__gte=0), then=revoked(F("state_claim"))),
        When(held, then=F("state_claim")),
        default=None,
        output_field=BigIntegerField(),
    )


def _held(own: int | None) -> Q:
    return leased() if own is None else leased() & ~Q(state_claim=own)


def claimed_by_hand(rows: list[Any]) -> list[Any]:
    """Note on these instances that their holder is whoever has them, not a check that runs."""
    for row in rows:
        vars(row._state)[BY_HAND] = True
    return rows


def gives_up_claim(row: Any) -> None:
    """From here on a check runs on this instance: moving it does not free the row any more."""
    vars(row._state).pop(BY_HAND, None)


def own_claim(row: Any) -> int | None:
    """The token of the claim that the holder of this instance made by hand, if it did."""
    return row.__dict__.get("state_claim") if BY_HAND in vars(row._state) else None


def note_move(row: Any) -> None:
    """Note on the instance that its row was moved by it."""
    vars(row._state)[MOVED] = True


def was_moved(row: Any) -> bool:
    """Whether somebody moved the row by this very instance."""
    return MOVED in vars(row._state)

"""What checks may answer: the refusal of anything else, and one answer for each row of a batch."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from django.db.models import Model

from django_fsmworker.exceptions import UndeclaredTransition
from django_fsmworker.graph import State
from django_fsmworker.graph.callables import refuse_awaitable
from django_fsmworker.store import Settled

WANTED = (
    "the check of a batch returns an answer for each row, a mapping from rows or their primary "
    "keys to answers, or one state, name or None for all."
)

AS_ASYNC_DEF = "write it, and what decorates it, as async def"


def answers(check: str, result: Any, rows: Sequence[Any], keys: Sequence[Any]) -> list[Any]:
    """One answer for each of ``rows``, whose primary keys were ``keys`` before the check.

    Raises ``TypeError`` or ``ValueError`` where ``result`` does not tell which row gets what.
    """
    if result is None or isinstance(result, State | str):
        return [result] * len(rows)
    if isinstance(result, Mapping):
        return _mapped(check, result, rows, keys)
    if not isinstance(result, Sequence) or isinstance(result, bytes | bytearray | memoryview):
        refuse_awaitable(check, result, AS_ASYNC_DEF)
        raise TypeError(f"{check} returned {reprlib.repr(result)}; {WANTED}")
    if len(result) != len(rows):
        _close(result)
        raise ValueError(
            f"{check} got {len(rows)} row{'s' if len(rows) > 1 else ''} and returned {len(result)} "
            f"answers; return one for each row, in the order of the rows, or a mapping from rows "
            f"to answers."
        )
    return list(result)


def _mapped(
    check: str, result: Mapping[Any, Any], rows: Sequence[Any], keys: Sequence[Any]
) -> list[Any]:
    """Rows that the mapping leaves out stay where they are."""
    by_identity = {id(row): position for position, row in enumerate(rows)}
    by_key = {key: position for position, key in enumerate(keys)}
    found: dict[int, Any] = {}
    for key, answer in result.items():
        position = by_identity.get(id(key))
        if position is None:
            position = by_key.get(_primary_key(key, rows))
        if position is None:
            raise ValueError(
                f"{check} returned an answer for {reprlib.repr(key)}, which is none of the rows "
                f"that it got; use the rows or their primary keys as keys."
            )
        if position in found:
            raise ValueError(
                f"{check} returned two answers for the row {keys[position]!r}; return one."
            )
        found[position] = answer
    return [found.get(position) for position in range(len(rows))]


def _primary_key(key: Any, rows: Sequence[Any]) -> Any:
    if not isinstance(key, Model):
        return key
    same = key._meta.concrete_model is rows[0]._meta.concrete_model
    return key.pk if same else key


def refuse_type(check: str, answer: Any) -> NoReturn:
    """Raise ``TypeError`` for what the check of one row returned."""
    refuse_awaitable(check, answer, AS_ASYNC_DEF)
    raise TypeError(
        f"{check} returned {answer!r}; a check returns a state, the name of one, or None."
    )


def refuse_undeclared(check: str, state: State, answer: State | str) -> NoReturn:
    """Raise for a target to which no edge of ``state`` leads that its check could take."""
    target = state.graph.get(answer)
    if target in state.children:
        only, without = "an event", ""
        if any(edge.target is target for edge in state.guards):
            only, without = "a guard", " without when="
        elif target is state.lifetime_state:
            only = "an event or the end of its life"
        raise UndeclaredTransition(
            f"{check} returned {target}, to which only {only} leads; declare "
            f"{state}.transitions_to({target}){without}, too, or return None."
        )
    raise UndeclaredTransition(
        f"{check} returned {target}, which is not declared; "
        f"declare {state}.transitions_to({target})."
    )


def refuse_answer(check: str, answer: Any) -> None:
    """Raise ``TypeError`` for what says nothing about the row that it is for."""
    if answer is None or isinstance(answer, State | str | Settled | BaseException):
        return
    if inspect.isawaitable(answer):
        _close([answer])
        raise TypeError(
            f"{check} answered with an awaitable ({type(answer).__name__}), which was not run; "
            f"await it, for instance in asyncio.gather(), before the check returns."
        )
    raise TypeError(
        f"{check} answered {answer!r} for this row; an answer is a state, the name of "
        f"one, None, TryAgainLater() or an exception."
    )


def _close(results: Sequence[Any]) -> None:
    for result in results:
        if inspect.iscoroutine(result):
            result.close()

"""Pausing what runners do: everything, a model, a state of it, or one key in that.

A pause is kept in the database of the rows, with who, when and why. Runners obey it within two
seconds, at once where hints reach them; what runs already goes on to its end. It ends by itself if
it is given an end, on the database's clock. Rows stay due meanwhile.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.graph import State
from django_fsmworker.graph.durations import as_seconds
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.hints import hint_paused
from django_fsmworker.models.indexes import own_column
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.models.limits import WHOLE_LANE, Pause, key_digest, stored_key
from django_fsmworker.store import pauses as store_pauses

__all__ = ["alift", "apause", "aresume", "lift", "pause", "paused", "resume"]


def pause(
    model: Any = None,
    state: State | str | None = None,
    *,
    key: Any = ...,
    until: datetime | timedelta | float | None = None,
    by: Any = None,
    reason: str = "",
    using: str | None = None,
) -> list[Pause]:
    """Pause what is named: with nothing, every model.

    A second pause of the same takes the place of the first. In a transaction it holds from the
    commit on.

    :param model: a model with a life; None for every model, in each database that has one.
    :param state: a state of it, or the name of one; None for all of them.
    :param key: a value of the column by which that state is limited (``limit_by``, ``rate_by``,
        ``fair_by``). Without it, all keys; None is the key of rows that have NULL there.
    :param until: when it ends: a ``datetime`` to come, or how long it lasts, in seconds or as a
        ``timedelta``, above zero. None, the default: until ``resume()``.
    :param by: who wants it: a user, or a name.
    :param reason: why, for those who will wonder.
    :param using: the alias of the database; by default where routers write the model.
    :returns: the records, one for each database.
    :raises ValueError: there are no such keys, the state is none of the model's, or the end is
        over.
    """
    label, name, found_key = _named(model, state, key)
    seconds = _seconds(until)
    who = "" if by is None else str(by)
    records: list[Pause] = []
    for alias in _aliases(model, using):
        pk = store_pauses.add(alias, label, name, found_key, seconds, by=who, reason=reason)
        records.append(QuerySet(Pause, using=alias).get(pk=pk))
        _hint(model, alias)
    return records


def resume(
    model: Any = None,
    state: State | str | None = None,
    *,
    key: Any = ...,
    by: Any = None,
    using: str | None = None,
) -> int:
    """Lift the pauses of what is named, and of whatever is part of it; returns how many.

    ``resume(Order)`` lifts those of its states and keys, too, whoever wanted them. One that is
    wider stays: while every model is paused, ``resume(Order)`` does not let orders run.

    :param model: a model with a life; None for every model.
    :param state: a state of it, or the name of one; None for all of them.
    :param key: a value of the column by which that state is limited.
    :param by: who wants it: a user, or a name.
    :param using: the alias of the database; by default where routers write the model.
    :raises ValueError: there are no such keys, or the state is none of the model's.
    """
    label, name, found_key = _named(model, state, key)
    found: QuerySet[Pause] = Pause.objects.all()
    if label:
        found = found.filter(model=label)
    if name:
        found = found.filter(state=name)
    if found_key is not WHOLE_LANE:
        found = found.filter(digest=key_digest(found_key))
    lifted = 0
    for alias in _aliases(model, using):
        lifted += store_pauses.lift(alias, found, "" if by is None else str(by))
        _hint(model, alias)
    return lifted


def lift(found: Pause, *, by: Any = None) -> bool:
    """Lift this very pause, and no other; False if it is over.

    :param found: its record, as ``paused()`` returns it.
    :param by: who wants it: a user, or a name.
    """
    alias = found._state.db or router.db_for_write(Pause)
    lifted = store_pauses.lift_one(alias, found.pk, "" if by is None else str(by))
    for each in stator_models(alias):
        if found.model in ("", each._meta.label):
            hint_paused(each, alias)
    return lifted


def paused(using: str | None = None) -> list[Pause]:
    """The pauses that are in force, in one database or (None) in each that has a model with a life.

    Those of breakers among them, also while one row is tried.
    """
    return [
        each
        for alias in _aliases(None, using)
        for each in store_pauses.in_force(alias).order_by("pk")
    ]


alift = sync_to_async(lift)
apause = sync_to_async(pause)
aresume = sync_to_async(resume)


def key_of_text(model: Any, state: State | str | None, text: str) -> Any:
    """The key that ``text`` means in the column by which the state is limited; ``NULL`` is None.

    :raises ValueError: there are no such keys, or the state is none of the model's.
    :raises ValidationError: the column takes no such value.
    """
    if model is None:
        raise ValueError(_OF_NO_MODEL)
    column, *_others = _columns(declaring_model(model), state)
    return None if text == "NULL" else stored_key(column, text)


_OF_NO_MODEL = "A state or a key belongs to a model; name that, too."


def _named(model: Any, state: State | str | None, key: Any) -> tuple[str, str, Any]:
    """The label, the state and the key that a pause is about, as records have them."""
    if model is None:
        if state is not None or key is not ...:
            raise ValueError(_OF_NO_MODEL)
        return "", "", WHOLE_LANE
    owner = declaring_model(model)
    name = "" if state is None else owner.state_graph.get(state).name
    return owner._meta.label, name, WHOLE_LANE if key is ... else _stored(owner, state, key)


def _stored(owner: Any, state: State | str | None, key: Any) -> Any:
    """``key`` as rows have it in the first of the columns that takes it."""
    refusals: list[str] = []
    for column in _columns(owner, state):
        try:
            return stored_key(column, key)
        except ValidationError as error:
            refusals += error.messages
    raise ValueError(f"key={key!r}: {refusals[0]}")


def _columns(owner: Any, state: State | str | None) -> list[Any]:
    """The columns by which the state, or each of them, is limited; at least one."""
    states = owner.state_graph.states
    chosen = states.values() if state is None else [owner.state_graph.get(state)]
    names = dict.fromkeys(each.limits.key for each in chosen if each.limits.key)
    if not names:
        raise ValueError(
            f"{'' if state is None else f'The state {state} of '}{owner._meta.label} has no keys; "
            f"give {'a state of it' if state is None else 'it'} a limit_by, rate_by or fair_by, or "
            "leave key out."
        )
    return [own_column(owner._meta, name) for name in names]


def _seconds(until: datetime | timedelta | float | None) -> float | None:
    if until is None:
        return None
    if not isinstance(until, datetime):
        return as_seconds(until, "until", above_zero=True)
    seconds = clock.seconds_until(until)
    if seconds <= 0:
        raise ValueError(f"until={until} is over; give a later moment, or how long it lasts.")
    return seconds


def _aliases(model: Any, using: str | None) -> list[str]:
    if using is not None:
        return [using]
    if model is not None:
        return [router.db_for_write(declaring_model(model))]
    return list(dict.fromkeys(router.db_for_write(each) for each in stator_models()))


def _hint(model: Any, alias: str) -> None:
    for each in [declaring_model(model)] if model is not None else stator_models(alias):
        hint_paused(each, alias)

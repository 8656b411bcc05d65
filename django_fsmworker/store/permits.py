"""Permits: the rights to run rows under a limit, taken before the rows are claimed.

A permit is leased like a row. Its holder renews it while it is in use, and gives it back; one of a
process that is gone is free when its lease has run out. Whatever is written is locked first, by
key, past what others have locked.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from django_fsmworker.models.functions import DatabaseLater, DatabaseNow
from django_fsmworker.models.keys import portions
from django_fsmworker.models.limits import Permit, key_digest, key_text
from django_fsmworker.store.interface import Store

MOST_LISTED = 500


@dataclass(slots=True)
class Taken:
    """What a claim was given: permits by key, and whether others took some at the same moment."""

    permits: dict[Any, list[int]]
    contended: bool = False


def holder() -> int:
    """A random number, by which a process knows its permits."""
    return secrets.randbits(62)


def take(
    store: Store,
    model: Any,
    state: str,
    limit: int,
    wanted: Mapping[Any, int],
    token: int,
    lease: float,
) -> Taken:
    """Take up to the ``wanted`` number of free permits of each key, ``limit`` of which there are.

    ``token`` is the holder's. The keys are values of a column, or ``WHOLE_LANE``.
    """
    by_digest = {key_digest(key): key for key, number in wanted.items() if number > 0}
    label = model._meta.label
    lane = _permits(store).filter(model=label, state=state, digest__in=by_digest, slot__lte=limit)
    known = list(
        lane.annotate(now=DatabaseNow()).values_list("digest", "slot", "pk", "lease", "now")
    )
    free: dict[str, list[int]] = {digest: [] for digest in by_digest}
    slots: dict[str, set[int]] = {digest: set() for digest in by_digest}
    for digest, slot, pk, until, now in known:
        slots[digest].add(slot)
        if until <= now:
            free[digest].append(pk)
    new = {
        digest: sorted(set(range(1, limit + 1)) - slots[digest])[: wanted[key] - len(free[digest])]
        for digest, key in by_digest.items()
        if wanted[key] > len(free[digest]) and len(slots[digest]) < limit
    }
    if any(new.values()):
        _make(store, label, state, {by_digest[digest]: some for digest, some in new.items()})
        made = lane.filter(lease__lte=DatabaseNow(), token=None).values_list("digest", "pk")
        for digest, pk in made:
            if pk not in free[digest]:
                free[digest].append(pk)
    # Not always the first ones, which others would try to take at the same moment.
    chosen = [
        pk for digest, some in free.items() for pk in _some_of(some, wanted[by_digest[digest]])
    ]
    taken = _take(store, chosen, token, lease)
    found: dict[Any, list[int]] = {key: [] for key in wanted}
    for digest, some in free.items():
        found[by_digest[digest]] = [pk for pk in some if pk in taken]
    return Taken(found, contended=len(taken) < len(chosen))


def renew(store: Store, token: int, permits: Collection[int], lease: float) -> set[int]:
    """Renew these of the holder's permits; returns those that it has (still, or anew)."""
    held: set[int] = set()
    for some in portions(sorted(permits), MOST_LISTED):
        with store.transaction():
            rows = _permits(store).filter(pk__in=some, token=token).order_by("pk")
            keys = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
            if keys:
                _permits(store).filter(pk__in=keys).update(lease=DatabaseLater(lease))
        held |= set(keys)
    return held


def still_held(store: Store, token: int, permits: Collection[int]) -> set[int]:
    """Those of these permits that nobody else has taken."""
    return set(
        _permits(store).filter(pk__in=list(permits), token=token).values_list("pk", flat=True)
    )


def give_back(store: Store, token: int, permits: Collection[int]) -> None:
    """Let go of these permits, whose rows are not run any more."""
    for some in portions(sorted(permits), MOST_LISTED):
        with store.transaction():
            rows = _permits(store).filter(pk__in=some, token=token).order_by("pk")
            keys = list(rows.select_for_update().values_list("pk", flat=True))
            if keys:
                _permits(store).filter(pk__in=keys).update(lease=DatabaseNow(), token=None)


def in_use(alias: str, label: str, state: str, key: Any) -> int:
    """How many permits of this key are taken at the moment."""
    rows: QuerySet[Permit] = QuerySet(Permit, using=alias)
    lane = rows.filter(model=label, state=state, digest=key_digest(key))
    return lane.filter(lease__gt=DatabaseNow()).count()


def purge(alias: str, older: float) -> None:
    """Remove permits that nobody has had for so many seconds: of keys that are gone."""
    rows: QuerySet[Permit] = QuerySet(Permit, using=alias)
    rows.filter(lease__lt=DatabaseLater(-older)).delete()


def _take(store: Store, chosen: list[int], token: int, lease: float) -> set[int]:
    taken: set[int] = set()
    for some in portions(sorted(chosen), MOST_LISTED):
        with store.transaction():
            rows = _permits(store).filter(pk__in=some, lease__lte=DatabaseNow()).order_by("pk")
            keys = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
            if keys:
                free = _permits(store).filter(pk__in=keys)
                free.update(token=token, lease=DatabaseLater(lease))
        taken |= set(keys)
    return taken


def _make(store: Store, label: str, state: str, slots: Mapping[Any, list[int]]) -> None:
    """Make the slots that a key has not had yet; others may do so at the same moment."""
    long_ago = store.now()
    new = [
        Permit(
            model=label,
            state=state,
            key=key_text(key),
            digest=key_digest(key),
            slot=slot,
            lease=long_ago,
        )
        for key in sorted(slots, key=key_digest)
        for slot in slots[key]
    ]
    _permits(store).bulk_create(new, ignore_conflicts=True)


def _some_of(free: list[int], number: int) -> list[int]:
    if len(free) <= number:
        return free
    return secrets.SystemRandom().sample(free, number)


def _permits(store: Store) -> QuerySet[Permit]:
    return QuerySet(Permit, using=store.alias)

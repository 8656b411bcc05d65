"""Permits: the rights to run rows under a limit, taken before the rows are claimed.

A permit is leased like a row. Its holder renews it while it is in use, and gives it back; one of a
process that is gone is free when its lease has run out. Whatever is written is locked first, by
key, past what others have locked.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, QuerySet

from django_fsmworker.models.functions import DatabaseLater, DatabaseNow
from django_fsmworker.models.keys import portions
from django_fsmworker.models.limits import Permit, key_digest, key_text

MOST_LISTED = 500


@dataclass(slots=True)
class Taken:
    """What a claim was given: permits by key, and whether others took some at the same moment."""

    permits: dict[Any, list[int]]
    contended: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """Permits that a holder wants: of each key, by its digest, up to a number of them."""

    label: str
    state: str
    limit: int
    keys: Mapping[str, Any]
    numbers: Mapping[str, int]
    token: int
    lease: float


def holder() -> int:
    """A random number, by which a process knows its permits."""
    return secrets.randbits(62)


class Permits:
    """The permits that one database keeps; what is here works on every database.

    ``transaction`` opens one there. ``token`` is always the holder's.
    """

    def __init__(self, alias: str, transaction: Callable[[], AbstractContextManager[None]]) -> None:
        self.alias = alias
        self._transaction = transaction

    def take(
        self,
        model: Any,
        state: str,
        limit: int,
        wanted: Mapping[Any, int],
        token: int,
        lease: float,
    ) -> Taken:
        """Take up to the ``wanted`` number of free permits of each key, of which ``limit`` exist.

        The keys are values of a column, or ``WHOLE_LANE``.
        """
        taken = Taken({key: [] for key in wanted})
        keys = {key_digest(key): key for key, number in wanted.items() if number > 0}
        if keys:
            numbers = {digest: wanted[key] for digest, key in keys.items()}
            wish = Wish(model._meta.label, state, limit, keys, numbers, token, lease)
            self._take(wish, taken)
        return taken

    def renew(self, token: int, permits: Collection[int], lease: float) -> set[int]:
        """Renew these of the holder's permits; returns those that it has (still, or anew)."""
        held: set[int] = set()
        for some in portions(sorted(permits), MOST_LISTED):
            with self._transaction():
                rows = self._rows.filter(pk__in=some, token=token).order_by("pk")
                keys = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
                if keys:
                    self._rows.filter(pk__in=keys).update(lease=DatabaseLater(lease))
            held |= set(keys)
        return held

    def still_held(self, token: int, permits: Collection[int]) -> set[int]:
        """The part of ``permits`` that nobody else has taken."""
        rows = self._rows.filter(pk__in=list(permits), token=token)
        return set(rows.values_list("pk", flat=True))

    def give_back(self, token: int, permits: Collection[int]) -> None:
        """Let go of these permits, whose rows are not run any more."""
        for some in portions(sorted(permits), MOST_LISTED):
            with self._transaction():
                rows = self._rows.filter(pk__in=some, token=token).order_by("pk")
                keys = list(rows.select_for_update().values_list("pk", flat=True))
                if keys:
                    self._rows.filter(pk__in=keys).update(lease=DatabaseNow(), token=None)

    @property
    def _rows(self) -> QuerySet[Permit]:
        return QuerySet(Permit, using=self.alias)

    def _take(self, wish: Wish, taken: Taken) -> None:
        """Add to ``taken`` what is free, and what there has not been yet."""
        keys, numbers, limit = wish.keys, wish.numbers, wish.limit
        lane = self._rows.filter(
            model=wish.label, state=wish.state, digest__in=keys, slot__lte=limit
        )
        known = list(
            lane.annotate(now=DatabaseNow()).values_list("digest", "slot", "pk", "lease", "now")
        )
        free: dict[str, list[int]] = {digest: [] for digest in keys}
        slots: dict[str, set[int]] = {digest: set() for digest in keys}
        for digest, slot, pk, until, now in known:
            slots[digest].add(slot)
            if until <= now:
                free[digest].append(pk)
        new = {
            digest: sorted(set(range(1, limit + 1)) - slots[digest])[: number - len(free[digest])]
            for digest, number in numbers.items()
            if number > len(free[digest]) and len(slots[digest]) < limit
        }
        if any(new.values()):
            self._make(wish, new)
            made = lane.filter(lease__lte=DatabaseNow(), token=None).values_list("digest", "pk")
            for digest, pk in made:
                if pk not in free[digest]:
                    free[digest].append(pk)
        # Not always the first ones, which others would try to take at the same moment.
        chosen = [pk for digest, some in free.items() for pk in _some_of(some, numbers[digest])]
        ours = self._take_free(chosen, wish.token, wish.lease)
        for digest, some in free.items():
            taken.permits[keys[digest]] = [pk for pk in some if pk in ours]
        taken.contended = len(ours) < len(chosen)

    def _take_free(self, chosen: list[int], token: int, lease: float) -> set[int]:
        taken: set[int] = set()
        for some in portions(sorted(chosen), MOST_LISTED):
            with self._transaction():
                rows = self._rows.filter(pk__in=some, lease__lte=DatabaseNow()).order_by("pk")
                keys = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True))
                if keys:
                    free = self._rows.filter(pk__in=keys)
                    free.update(token=token, lease=DatabaseLater(lease))
            taken |= set(keys)
        return taken

    def _make(self, wish: Wish, slots: Mapping[str, list[int]]) -> None:
        """Make the slots that a key has not had yet; others may do so at the same moment."""
        new = [
            Permit(
                model=wish.label,
                state=wish.state,
                key=key_text(wish.keys[digest]),
                digest=digest,
                slot=slot,
                lease=DatabaseNow(),
            )
            for digest in sorted(slots)
            for slot in slots[digest]
        ]
        self._rows.bulk_create(new, ignore_conflicts=True)


def in_use(alias: str, label: str, state: str, key: Any) -> int:
    """How many permits of this key are taken at the moment."""
    rows: QuerySet[Permit] = QuerySet(Permit, using=alias)
    lane = rows.filter(model=label, state=state, digest=key_digest(key))
    return lane.filter(lease__gt=DatabaseNow()).count()


def in_use_by_key(alias: str, labels: Collection[str]) -> dict[tuple[str, str], dict[str, int]]:
    """How many permits are taken at the moment, by model and state, and there by key; one query."""
    rows: QuerySet[Permit] = QuerySet(Permit, using=alias)
    taken = rows.filter(model__in=labels, lease__gt=DatabaseNow()).order_by()
    found: dict[tuple[str, str], dict[str, int]] = {}
    for model, state, key, number in taken.values_list("model", "state", "key").annotate(
        number=Count("pk")
    ):
        found.setdefault((model, state), {})[key] = number
    return found


def purge(alias: str, older: float) -> None:
    """Remove permits that nobody has had for so many seconds: of keys that are gone."""
    rows: QuerySet[Permit] = QuerySet(Permit, using=alias)
    rows.filter(lease__lt=DatabaseLater(-older)).delete()


def _some_of(free: list[int], number: int) -> list[int]:
    if len(free) <= number:
        return free
    return secrets.SystemRandom().sample(free, number)

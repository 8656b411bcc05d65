"""Pauses: what is not run for a time, in the database of the rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import Greatest

from django_fsmworker.models.functions import DatabaseLater, DatabaseNow
from django_fsmworker.models.limits import WHOLE_LANE, Pause, key_digest, key_text


@dataclass(frozen=True, slots=True)
class Paused:
    """A pause that is in force, or a breaker's that waits for its trial.

    ``left`` is the seconds until it is over, None if it has to be lifted. ``on_trial``: its time is
    over, and one row may be tried. ``digest`` is empty where it is not about one key.
    """

    pk: int
    model: str
    state: str
    digest: str
    key: str
    kind: str
    by: str
    reason: str
    left: float | None
    on_trial: bool

    def is_about(self, label: str, state: str, target: str) -> bool:
        """Whether it stops rows of this model in this state, of one key at least.

        Events wait with the model that they are for (``target``, empty for other rows) where all
        of that is paused: one state of it, or one key, does not concern them.
        """
        if self.model in ("", label):
            return self.state in ("", state)
        return self.model == target and not (self.state or self.digest)


@dataclass(frozen=True, slots=True)
class PauseRequest:
    """A pause that a check asks for, of its row's state or of one key there."""

    seconds: float
    key: Any = WHOLE_LANE
    reason: str = ""


def in_force(alias: str) -> QuerySet[Pause]:
    """The records of pauses that nobody has lifted, and whose time is not over.

    Those of breakers stay when their time is over: they wait for a trial.
    """
    return _pauses(alias).filter(_not_over())


def _not_over() -> Q:
    has_time_left = Q(until=None) | Q(until__gt=DatabaseNow())
    return Q(lifted=None) & (has_time_left | Q(kind=Pause.Kind.BREAKER))


def current(alias: str, labels: Collection[str] | None = None) -> list[Paused]:
    """The pauses that are in force, of these models (None: of all), and of every model."""
    rows = in_force(alias)
    if labels is not None:
        rows = rows.filter(model__in=["", *labels])
    found = []
    for each in rows.annotate(now=DatabaseNow()).order_by("pk"):
        now = each.now
        left = None if each.until is None else (each.until - now).total_seconds()
        found.append(
            Paused(
                each.pk,
                each.model,
                each.state,
                each.digest,
                each.key,
                each.kind,
                each.by,
                each.reason,
                left,
                on_trial=left is not None and left <= 0,
            )
        )
    return found


def add(
    alias: str,
    model: str,
    state: str,
    key: Any,
    seconds: float | None,
    *,
    kind: str = Pause.Kind.BY_HAND,
    by: str = "",
    reason: str = "",
) -> int:
    """Pause for ``seconds`` (None: until it is lifted); returns the id of the record.

    There is one of a kind for the same rows: the newest word of people counts, and what checks and
    breakers ask for is never shortened by another of them.
    """
    until = None if seconds is None else DatabaseLater(seconds)
    words = {"by": by[:200], "reason": reason}
    same = in_force(alias).filter(model=model, state=state, digest=key_digest(key), kind=kind)
    pk = same.order_by("-pk").values_list("pk", flat=True).first()
    if pk is not None:
        longer = until if kind == Pause.Kind.BY_HAND else Greatest("until", until)
        _pauses(alias).filter(pk=pk).update(until=longer, trial=None, **words)
        return pk
    created = _pauses(alias).create(
        model=model,
        state=state,
        key=key_text(key),
        digest=key_digest(key),
        kind=kind,
        since=DatabaseNow(),
        until=until,
        **words,
    )
    return created.pk


def lift(alias: str, pauses: QuerySet[Pause], by: str) -> int:
    """Lift these pauses; returns how many of them were in force."""
    lifted = pauses.using(alias).filter(_not_over())
    return lifted.update(lifted=DatabaseNow(), lifted_by=by[:200])


def lift_one(alias: str, pk: int, by: str) -> bool:
    """Lift this pause; False if somebody has done so."""
    return bool(lift(alias, _pauses(alias).filter(pk=pk), by))


def try_one(alias: str, pk: int, lease: float) -> bool:
    """Take the right to try one row after a breaker's pause; False if somebody else has it."""
    free = Q(trial=None) | Q(trial__lte=DatabaseNow())
    ours = _pauses(alias).filter(free, pk=pk, lifted=None, until__lte=DatabaseNow())
    return bool(ours.update(trial=DatabaseLater(lease)))


def renew_trial(alias: str, pk: int, lease: float) -> None:
    """Keep that right, while the row's check runs."""
    _pauses(alias).filter(pk=pk, lifted=None).update(trial=DatabaseLater(lease))


def end_trial(alias: str, pk: int) -> None:
    """Give that right back: no row was tried."""
    _pauses(alias).filter(pk=pk).update(trial=None)


def begin_anew(alias: str, pk: int, seconds: float) -> None:
    """The row that was tried has failed: the pause begins anew."""
    _pauses(alias).filter(pk=pk, lifted=None).update(until=DatabaseLater(seconds), trial=None)


def purge(alias: str, older: timedelta) -> None:
    """Remove pauses that have been over for so long."""
    long_ago = DatabaseLater(-older.total_seconds())
    over = Q(lifted__lt=long_ago) | (Q(until__lt=long_ago) & ~Q(kind=Pause.Kind.BREAKER))
    _pauses(alias).filter(over).delete()


def _pauses(alias: str) -> QuerySet[Pause]:
    return QuerySet(Pause, using=alias)

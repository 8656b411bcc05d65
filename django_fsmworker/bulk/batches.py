"""Some rows at a time: locked in the order of their keys, looked at once more, and written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db.models import QuerySet

from django_fsmworker.bulk.verbs import BulkVerb
from django_fsmworker.models.keys import portions, row_key
from django_fsmworker.models.locking import lockable, locked, patiently
from django_fsmworker.store import store_for
from django_fsmworker.store.bulk_rows import FrozenQuery, still_matching

BATCH = 500
EXAMPLES = 5


@dataclass(slots=True)
class Tally:
    """What came of rows: how many were written, and of the others how many for each reason.

    ``skipped`` has by reason the number, and the keys of the first few: ``[3, ["7", "9", "12"]]``.
    """

    done: int = 0
    skipped: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def left_out(self) -> int:
        """The number of all that were not written."""
        return sum(number for number, _ in self.skipped.values())

    def skip(self, why: str, keys: Iterable[Any]) -> None:
        """Count rows that are left out."""
        for key in keys:
            entry = self.skipped.setdefault(why, [0, []])
            entry[0] += 1
            if len(entry[1]) < EXAMPLES:
                entry[1].append(row_key(key))

    def add(self, other: Tally) -> None:
        """Count what came of other rows, too."""
        self.done += other.done
        for why, (number, examples) in other.skipped.items():
            entry = self.skipped.setdefault(why, [0, []])
            entry[0] += number
            entry[1] = (entry[1] + examples)[:EXAMPLES]


def write_batch(
    verb: BulkVerb,
    model: Any,
    alias: str,
    keys: Sequence[Any],
    query: FrozenQuery | None = None,
    *,
    skip_locked: bool = False,
) -> Tally:
    """Write the rows of a batch to which ``verb`` applies, within the caller's transaction.

    ``keys`` are primary keys of ``model``. With ``query``, rows that it finds no more are left out;
    with ``skip_locked`` those that somebody else has locked, where the database can do that.
    """
    tally = Tally()
    rows: QuerySet[Any] = QuerySet(model, using=alias)
    chosen = rows.filter(pk__in=keys)
    present = {key for some in lockable(chosen) for _, key in _locked(some, skip_locked)}
    absent = [key for key in keys if key not in present]
    busy = set(rows.filter(pk__in=absent).values_list("pk", flat=True)) if absent else set()
    # Everything is looked at under the lock: what was seen before it may be past.
    matching = present if query is None else still_matching(model, alias, query, keys) & present
    found = chosen.annotate(fsm_why_=verb.why()).values_list("pk", "fsm_why_")
    why = dict(found)
    for key in keys:
        if key not in present:
            tally.skip("locked" if key in busy else "gone", [key])
        elif key not in matching:
            tally.skip("changed", [key])
        elif why[key]:
            tally.skip(why[key], [key])
    eligible = [key for key in keys if key in matching and not why[key]]
    if eligible:
        tally.done = verb.write(rows.filter(pk__in=eligible))
        tally.skip("changed", eligible[tally.done :])
    return tally


def _locked(rows: QuerySet[Any], skip: bool) -> list[tuple[str, Any]]:
    """State and key: with the state first, a key of several columns is no riddle to the lock."""
    return list(locked(rows, skip).values_list("state", "pk"))


def act_now(verb: BulkVerb, rows: QuerySet[Any], keys: Iterable[Any]) -> Tally:
    """Write ``rows``, which have these keys, at once, as ``verb`` says: a batch a transaction."""
    tally, alias = Tally(), rows.db
    for some in portions(sorted(keys), BATCH):
        tally.add(patiently(alias, partial(_write_now, verb, rows.model, alias, some)))
    return tally


def _write_now(verb: BulkVerb, model: Any, alias: str, keys: Sequence[Any]) -> Tally:
    with store_for(alias).transaction():
        return write_batch(verb, model, alias, keys)

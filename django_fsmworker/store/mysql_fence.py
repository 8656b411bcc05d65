"""Which rows still carry what the fence asks for; they are locked while one looks.

An UPDATE would wait for rows that somebody else has locked, so a SELECT locks them first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django_fsmworker.models.keys import batched
from django_fsmworker.store.mysql_sql import MOST_KEYS, Key, count_sql, holds_sql
from django_fsmworker.store.tables import Table

Fetch = Callable[[str, list[Any]], list[Any]]
# A primary key, the token, and the state; None where the state does not matter.
Fence = tuple[Any, int | None, str | None]

MOST_FENCES = 8


def held(
    fetch: Fetch, table: Table, fences: Sequence[Fence], lock: bool = True
) -> list[tuple[Any, Key]]:
    """The rows that carry their token and are in their state.

    Returns their keys, as Python and the driver have them. Rows locked by others are left out,
    unless nothing is to be locked.
    """
    found: list[tuple[Any, Key]] = []
    for some in batched(list(fences), MOST_KEYS):
        keys = table.prepare_keys([pk for pk, _, _ in some])
        if lock and _all_held(fetch, table, some, keys):
            found += [(fence[0], key) for fence, key in zip(some, keys, strict=True)]
        else:
            found += _each_held(fetch, table, some, keys, lock)
    return found


def _all_held(fetch: Fetch, table: Table, fences: Sequence[Fence], keys: Sequence[Key]) -> bool:
    """Lock them by counting: mostly all are there, and a row of an answer costs more than a lock.

    Those of a few claims, that is; each has a condition of its own.
    """
    alike: dict[tuple[int | None, str | None], list[Key]] = {}
    for (_, token, state), key in zip(fences, keys, strict=True):
        alike.setdefault((token, state), []).append(key)
    if len(alike) > MOST_FENCES:
        return False
    ((number,),) = fetch(*count_sql(table, alike))
    return bool(number == len(fences))


def _each_held(
    fetch: Fetch, table: Table, fences: Sequence[Fence], keys: Sequence[Key], lock: bool
) -> Iterator[tuple[Any, Key]]:
    expected = {pk: (token, state) for pk, token, state in fences}
    rows = fetch(*holds_sql(table, keys, lock))
    for pk, (*key, state, token) in zip(table.each_key(rows), rows, strict=True):
        # Compared here, a state is no other one that the column's collation takes for equal.
        if expected.get(pk) in ((token, state), (token, None)):
            yield pk, key

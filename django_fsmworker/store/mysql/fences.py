"""Which rows still carry what their fence asks for; they are locked while one looks.

An UPDATE would wait for rows that somebody else has locked, so a SELECT locks them first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from django_fsmworker.models.keys import portions
from django_fsmworker.store.fence import Fence
from django_fsmworker.store.mysql import sql
from django_fsmworker.store.mysql.sql import Key
from django_fsmworker.store.tables import Table

# A token, and a state where that matters.
Expected = tuple[int | None, str | None]

Fetch = Callable[[str, list[Any]], list[Any]]
MOST_FENCES = 8


def held(
    fetch: Fetch,
    table: Table,
    fences: Sequence[Fence],
    lock: bool = True,
    same_state: bool = True,
) -> list[tuple[Any, Key]]:
    """The rows that carry their token and, with ``same_state``, are in their state.

    Returns their keys, as Python and the driver have them. Rows locked by others are left out,
    unless nothing is to be locked.
    """
    found: list[tuple[Any, Key]] = []
    for some in portions(list(fences), sql.MOST_LISTED):
        keys = table.prepare_keys([fence.pk for fence in some])
        expected = [(fence.token, fence.state if same_state else None) for fence in some]
        if lock and _all_held(fetch, table, expected, keys):
            found += [(fence.pk, key) for fence, key in zip(some, keys, strict=True)]
        else:
            by_key = {fence.pk: each for fence, each in zip(some, expected, strict=True)}
            found += _each_held(fetch, table, by_key, keys, lock)
    return found


def _all_held(
    fetch: Fetch, table: Table, expected: Sequence[Expected], keys: Sequence[Key]
) -> bool:
    """Lock them by counting: mostly all are there, and a row of an answer costs more than a lock.

    Those of a few claims, that is; each has a condition of its own.
    """
    alike: dict[Expected, list[Key]] = {}
    for each, key in zip(expected, keys, strict=True):
        alike.setdefault(each, []).append(key)
    if len(alike) > MOST_FENCES:
        return False
    ((number,),) = fetch(*sql.count(table, alike))
    return bool(number == len(keys))


def _each_held(
    fetch: Fetch, table: Table, expected: Mapping[Any, Expected], keys: Sequence[Key], lock: bool
) -> Iterator[tuple[Any, Key]]:
    rows = fetch(*sql.fences(table, keys, lock))
    for pk, (*key, state, token) in zip(table.each_key(rows), rows, strict=True):
        # Compared here, a state is no other one that the column's collation takes for equal.
        if expected.get(pk) in ((token, state), (token, None)):
            yield pk, key

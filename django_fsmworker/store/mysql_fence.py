"""Which rows still carry what the fence asks for; they are locked while one looks.

An UPDATE would wait for rows that somebody else has locked, so a SELECT locks them first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django_fsmworker.models.keys import batched
from django_fsmworker.store.interface import Hold
from django_fsmworker.store.mysql_sql import MOST_KEYS, Key, count_sql, holds_sql
from django_fsmworker.store.tables import Table

Fetch = Callable[[str, list[Any]], list[Any]]

MOST_FENCES = 8


def held(
    fetch: Fetch, table: Table, holds: Sequence[Hold], same_state: bool, lock: bool = True
) -> list[tuple[Any, Key]]:
    """The rows that carry their token and, with ``same_state``, are in their state.

    Returns their keys, as Python and the driver have them. Rows locked by others are left out,
    unless nothing is to be locked.
    """
    found: list[tuple[Any, Key]] = []
    for some in batched(list(holds), MOST_KEYS):
        keys = table.prepare_keys(hold.pk for hold in some)
        if lock and _all_held(fetch, table, some, keys, same_state):
            found += [(hold.pk, key) for hold, key in zip(some, keys, strict=True)]
        else:
            found += _each_held(fetch, table, some, keys, same_state, lock)
    return found


def _all_held(
    fetch: Fetch, table: Table, holds: Sequence[Hold], keys: Sequence[Key], same_state: bool
) -> bool:
    """Lock them by counting: mostly all are there, and a row of an answer costs more than a lock.

    Those of a few claims, that is; each has a condition of its own.
    """
    fences: dict[tuple[Any, ...], list[Key]] = {}
    for hold, key in zip(holds, keys, strict=True):
        fence = (hold.token, hold.state) if same_state else (hold.token,)
        fences.setdefault(fence, []).append(key)
    if len(fences) > MOST_FENCES:
        return False
    ((number,),) = fetch(*count_sql(table, fences, same_state))
    return bool(number == len(holds))


def _each_held(
    fetch: Fetch,
    table: Table,
    holds: Sequence[Hold],
    keys: Sequence[Key],
    same_state: bool,
    lock: bool,
) -> Iterator[tuple[Any, Key]]:
    expected = {hold.pk: hold for hold in holds}
    rows = fetch(*holds_sql(table, keys, lock))
    for pk, (*key, state, token) in zip(table.each_key(rows), rows, strict=True):
        hold = expected.get(pk)
        if hold is not None and token == hold.token:
            # Compared here, a state is no other one that the column's collation takes for equal.
            if state == hold.state or not same_state:
                yield pk, key

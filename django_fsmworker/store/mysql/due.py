"""What a claim takes: the first due rows of each lane that nobody holds or has locked.

Reading a column takes a driver in Python as long as the server takes to find its row. So what a
claim wants to know beside the row comes in the columns that it is about to write: in the one of the
token the number of the row's lane, and in one row before all others the time where the lease is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import connections

from django_fsmworker.models.entering import is_revoked
from django_fsmworker.models.fields import MOST_FAILURES
from django_fsmworker.store.fence import Lane, key_column, lane_value
from django_fsmworker.store.mysql import sql
from django_fsmworker.store.tables import Table

Fetch = Callable[[str, list[Any]], list[Any]]

TIMESTAMP, DATETIME = 7, 12  # in the protocol


class Due:
    """Reads the lanes of one table."""

    def __init__(
        self, fetch: Fetch, table: Table, lanes: Sequence[Lane], until: datetime | None
    ) -> None:
        self._fetch = fetch
        self._table = table
        self._lanes = dict(enumerate(lanes))
        self._key = key_column(lanes)
        self._connection: Any = connections[table.database]
        self._now = sql.database_now()
        self._by = [] if until is None else [self._moment(until)]
        self.aware = False  # whether the moments that were read have their time zone

    def lock(self, fields: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Lock up to each lane's limit; the database's time, and ``fields`` of each row."""
        found: dict[int, list[Any]] = {}
        asked, times, now = self._lanes, 1, None
        with reading_times_fast(self._connection) as self.aware:
            while asked:
                now, rows = self._lock(asked, fields, times)
                found |= rows
                short = {n: lane for n, lane in asked.items() if len(found[n]) < lane.limit}
                # The first rows of a lane may be locked by others who claim at the same moment.
                asked = self._not_exhausted(short, times)
                times *= 4
        return now, [row for rows in found.values() for row in rows]

    def _lock(
        self, lanes: Mapping[int, Lane], fields: Sequence[Any], times: int
    ) -> tuple[Any, dict[int, list[Any]]]:
        names, by = tuple(field.attname for field in fields), bool(self._by)
        lane_at, columns = names.index("state_claim"), self._table.selected(fields)
        parts, params = [sql.clock_row(names, self._now)], []
        for number, lane in lanes.items():
            columns[lane_at] = sql.lane_of(self._table, number)
            parts.append(sql.lock_due(self._table, ", ".join(columns), self._now, by, self._key))
            params += self._params(lane, times)
            params += [lane.state, *lane_value(self._table, lane), lane.limit]
        found: dict[int, list[Any]] = {number: [] for number in (sql.CLOCK, *lanes)}
        for row in self._fetch(" UNION ALL ".join(parts), params):
            number = row[lane_at]
            found[number if number >= sql.CLOCK else sql.REVOKED - number].append(list(row))
        (clock,) = found.pop(sql.CLOCK)
        return clock[names.index("state_lease")], found

    def _not_exhausted(self, lanes: Mapping[int, Lane], times: int) -> dict[int, Lane]:
        """The lanes with more due rows than were looked at."""
        if not lanes:
            return {}
        parts, params = [], []
        for number, lane in lanes.items():
            by = bool(self._by)
            parts.append(sql.count_due(self._table, number, self._now, by, self._key))
            params += self._params(lane, times)
        counted = dict(self._fetch(" UNION ALL ".join(parts), params))
        return {n: lane for n, lane in lanes.items() if counted[n] >= _looked_at(lane, times)}

    def _params(self, lane: Lane, times: int) -> list[Any]:
        since = sql.BEGINNING if lane.since is None else self._moment(lane.since)
        return [
            lane.state,
            *lane_value(self._table, lane),
            since,
            *self._by,
            _looked_at(lane, times),
        ]

    def _moment(self, moment: datetime) -> Any:
        return self._connection.ops.adapt_datetimefield_value(moment)


def _looked_at(lane: Lane, times: int) -> int:
    """How many free rows to find for so many to be locked: some may be locked by others."""
    return times * (lane.limit + lane.limit // 4 + 10)


def take(fields: Sequence[Any], rows: Sequence[list[Any]], token: int, end: datetime) -> None:
    """Give locked rows the token, the failures and the lease's end that are about to be written."""
    at = {field.attname: position for position, field in enumerate(fields)}
    lease_at, claim_at, failures_at = at["state_lease"], at["state_claim"], at["state_failures"]
    for row in rows:
        revoked = is_revoked(row[claim_at])
        row[claim_at] = token
        if row[lease_at] is not None and not revoked:  # it has lapsed
            row[claim_at] = token + 1
            row[failures_at] = min(row[failures_at] + 1, MOST_FAILURES)
        row[lease_at] = end


@contextmanager
def reading_times_fast(connection: Any) -> Iterator[bool]:
    """PyMySQL takes a timestamp apart with a regular expression, Django gives it a time zone in
    several calls; a claim reads thousands. Whether they are read at once, with their time zone.
    """
    connection.ensure_connection()
    raw = connection.connection
    decoders = getattr(raw, "decoders", None)
    if not decoders or connection.timezone_name != "UTC":  # another driver's; somebody's own
        yield False
        return
    raw.decoders = {**decoders, TIMESTAMP: _moment, DATETIME: _moment}
    try:
        yield True
    finally:
        raw.decoders = decoders


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text + "+00:00")

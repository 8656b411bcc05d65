"""Tables of many rows, filled by the database itself, and what pages read of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

TABLES = (
    "tests_account",
    "django_fsmworker_failurerecord",
    "django_fsmworker_transitionrecord",
    "django_fsmworker_event",
)

# Of 100 rows one fails; of these every other one is parked. 20 are due, 20 are later, 10 are done.
# Of 100,000 one is run, one is stranded and one is in a state that the graph does not declare.
ROWS = """
    INSERT INTO tests_account (state, state_changed, state_next, state_failures, state_history,
        balance, mode, state_claim, state_lease)
    SELECT
        CASE WHEN n % 100000 = 50007 THEN 'lost'
            WHEN n % 10 IN (0, 1, 2, 3, 4) THEN 'checking' WHEN n % 10 = 5 THEN 'closed'
            ELSE 'open' END,
        now() - interval '1 hour',
        CASE WHEN n % 100000 = 50001 THEN now() - interval '2 hours'
            WHEN n % 100000 = 50003 THEN NULL WHEN n % 100000 = 50007 THEN now()
            WHEN n % 200 = 0 THEN NULL WHEN n % 100 = 0 THEN now() + interval '1 hour'
            WHEN n % 10 IN (1, 2) THEN now() - interval '1 minute' - n * interval '1 microsecond'
            WHEN n % 10 IN (0, 3, 4) THEN now() + interval '1 hour' + n * interval '1 microsecond'
            END,
        CASE WHEN n % 200 = 0 THEN 5 WHEN n % 100 = 0 THEN 2 ELSE 0 END,
        '[]', n % 1000, '',
        CASE WHEN n % 100000 = 50001 THEN 5 END,
        CASE WHEN n % 100000 = 50001 THEN now() + interval '2 hours' END
    FROM generate_series(1, {number}) AS n"""
FAILURES = """
    INSERT INTO django_fsmworker_failurerecord (model, row, digest, state, error, message,
        traceback, count, deaths, first_seen, last_seen, resolved,
        went_to, resolved_failures, worker, parked_by, parked_reason)
    SELECT 'tests.Account', pk::text, encode(sha256(pk::text::bytea), 'hex'), 'checking',
        (ARRAY['TimeoutError', 'KeyError', 'ValueError'])[1 + n % 3], 'no answer',
        repeat('File "checks.py", line 1', 40), 3, 0, now() - interval '1 hour',
        now() - n * interval '1 millisecond', NULL, '', 0, 'host:1', '', ''
    FROM generate_series(1, {number} / 100) AS n,
        LATERAL (SELECT (SELECT min(id) FROM tests_account) - 1 + 100 * n AS pk) AS failing"""
TRANSITIONS = """
    INSERT INTO django_fsmworker_transitionrecord (model, row, digest, source, target, at,
        duration, cause, trigger, by, reason, worker)
    SELECT 'tests.Account', n::text, n, 'open', 'checking', now(), interval '5 seconds', 'event',
        'check', 'ops', '', ''
    FROM generate_series(1, least({number} / 5 * 2, 1000000)) AS n"""
EVENTS = """
    INSERT INTO django_fsmworker_event (state, state_changed, state_next, state_failures, model,
        row, row_hash, trigger, context, by, submitted, fires_at, max_attempts, idempotency_key,
        reason)
    SELECT CASE WHEN n % 10 = 0 THEN 'pending' ELSE 'delivered' END, now(),
        CASE WHEN n % 10 = 0 THEN now() + interval '1 hour' END, 0, 'tests.Account', n::text, n,
        'book', '{{}}', 'ops', now(), now() + interval '1 hour', 5, '', ''
    FROM generate_series(1, least({number} / 5 * 2, 1000000)) AS n"""


def fill(number: int) -> None:
    """Put ``number`` rows into the table, and failures, events and a log to them."""
    with connection.cursor() as cursor:
        for table, sql in zip(TABLES, (ROWS, FAILURES, TRANSITIONS, EVENTS), strict=True):
            cursor.execute(sql.format(number=number))
            # Without a VACUUM the first readers write hints into pages, which is not their work.
            cursor.execute(f"VACUUM (ANALYZE) {table}")


def empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")


@dataclass
class Work:
    """The queries of a page, and how many rows each looked at, those left out included."""

    looked_at: list[tuple[int, str]] = field(default_factory=list)

    @property
    def most(self) -> tuple[int, str]:
        return max(self.looked_at)


@contextmanager
def measured_work() -> Iterator[Work]:
    """Explain each query that is sent, and send it."""
    work = Work()

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT"):
            execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params, many, context)
            ((plan,),) = context["cursor"].fetchone()
            work.looked_at.append((_looked_at(plan["Plan"]), sql))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield work


def _looked_at(node: dict[str, Any]) -> int:
    below = [_looked_at(each) for each in node.get("Plans", ())]
    if "Scan" not in node["Node Type"] or node["Node Type"] == "Subquery Scan":
        return sum(below)
    removed = sum(value for name, value in node.items() if name.startswith("Rows Removed by"))
    return sum(below) + int((node["Actual Rows"] + removed) * node["Actual Loops"])

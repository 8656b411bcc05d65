"""Drain behind rows that another runner holds: they lie at the head of the lane, and are leased."""

from __future__ import annotations

from django.db import connection

from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.cases.drain import without
from benchmarks.contenders import Engine
from benchmarks.requirements import Requirement
from benchmarks.results import Series

ROWS, RUNS = 50_000, 5
HELD, TINY = 5_000, 100


class BesideHeld(Engine):
    """The others are as a claim leaves them; their first renewal would move them out of the way."""

    def __init__(self, held: int) -> None:
        super().__init__("Noop", settings=f"{held:,} rows held elsewhere")
        self._held = held

    def clear(self) -> None:
        super().clear()
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO benchmarks_noop (state, state_next, state_lease, state_claim) "
                "SELECT 'new', now() - interval '1 minute', now() + interval '1 hour', 2 * n "
                "FROM generate_series(1, %s) AS n",
                [self._held],
            )


def measure(bench: Bench) -> list[Series]:
    contenders = [Engine("Noop"), BesideHeld(bench.around(HELD, TINY))]
    return bench.race(contenders, [bench.size(ROWS)] * 2, bench.times(RUNS))


CASE = Case(
    "in-flight",
    "Drain while another runner holds 5,000 rows",
    measure,
    [Requirement("5,000 long-running rows elsewhere", 0.8, "x the drain without them", without)],
    about=(
        "The rows held by the other runner lie at the head of the lane, as a claim leaves "
        "them, and are passed by each time."
    ),
)

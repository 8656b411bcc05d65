"""Drain of wide rows with six indexes of the user's own, at fillfactor 70."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection

from tests.benchmarks import database
from tests.benchmarks.bench import Bench
from tests.benchmarks.cases.case import Case
from tests.benchmarks.cases.drain import without
from tests.benchmarks.contenders import Engine
from tests.benchmarks.requirements import Requirement
from tests.benchmarks.results import CaseResult, Series
from tests.benchmarks.statistics import median

ROWS, RUNS = 20_000, 5
SCATTERED, ADJACENT = "six indexes, one row in five due", "six indexes, every row due"

FILL = """
    INSERT INTO benchmarks_wide (
        state, state_next, customer, region, reference, amount, placed, flagged, note, address)
    SELECT
        CASE WHEN n % {every} = 0 THEN 'new' ELSE 'done' END,
        CASE WHEN n % {every} = 0 THEN now() - interval '1 hour' + n * interval '1 ms' END,
        n % 1000, 'region ' || n % 50, md5(n::text), n % 100000, now(),
        n % 7 = 0, repeat('note ', 20), repeat('address ', 20)
    FROM generate_series(1, {number}) AS n"""


class Wide(Engine):
    """``every`` of them is due; with 1, all rows of a page are claimed at once."""

    def __init__(self, every: int, settings: str) -> None:
        super().__init__("Wide", settings=settings)
        self._every = every

    def prepare(self, number: int) -> Sequence[int]:
        self.clear()
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE benchmarks_wide SET (fillfactor = 70)")
            cursor.execute(FILL.format(every=self._every, number=self._every * number))
        self._keys = list(self.rows.filter(state="new").order_by("pk").values_list("pk", flat=True))
        database.tidy(self.alias, self.model)
        return self._keys

    def left(self) -> int:
        number: int = self.rows.filter(state="new").count()
        return number


def measure(bench: Bench) -> list[Series]:
    contenders = [Engine("Noop"), Wide(5, SCATTERED), Wide(1, ADJACENT)]
    return bench.race(contenders, [bench.size(ROWS)] * 3, bench.times(RUNS))


def hot(result: CaseResult) -> float:
    """Percent of claims. A row's two updates are its claim and its settling, which never is HOT."""
    return 100 * median(result.one("django-fsmworker", SCATTERED).extra["hot_updates"])


CASE = Case(
    "wide",
    "Drain of wide rows with six indexes of the user's own",
    measure,
    [
        Requirement("six user indexes", 0.5, "x the drain of narrow rows", without),
        Requirement("six user indexes, fillfactor 70", 90, "% of the claims HOT", hot, digits=0),
    ],
    about=(
        "Each row has two texts and six indexes that do not concern its state; its table has "
        "a fillfactor of 70. One row in five is due, as in a table of which a part is worked "
        "on. With every row due, all rows of a page are claimed at once; no page has room for "
        "that, and claims cannot all be HOT."
    ),
)

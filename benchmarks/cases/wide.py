"""Drain of wide rows with six indexes of the user's own, at fillfactor 70."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection

from benchmarks import database
from benchmarks.bench import Bench
from benchmarks.cases.case import Case
from benchmarks.contenders import Engine
from benchmarks.contenders.engine import NAME
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.statistics import median, ratio

ROWS, RUNS = 20_000, 5
SCATTERED, ADJACENT = VARIANTS = (
    "six indexes, one row in five due", "six indexes, every row due",
)  # fmt: skip
FULL = (
    "With every row due, all rows of a page are claimed at once, and a third of a page has no room "
    "for a second version of each: where it ends, a claim writes to each of the user's indexes."
)

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


def of_narrow(result: CaseResult) -> float:
    """The drain of the less favourable of both variants."""
    narrow = result.one(NAME, "default").values
    return min(ratio(result.one(NAME, each).values, narrow) for each in VARIANTS)


def hot(result: CaseResult) -> float:
    """
    Percent of the claims of the less favourable variant.

    A row's two updates are its claim and its settling, which never is HOT.
    """
    return min(100 * median(result.one(NAME, each).extra["hot_updates"]) for each in VARIANTS)


CASE = Case(
    "wide",
    "Drain of wide rows with six indexes of the user's own",
    measure,
    [
        Requirement("six user indexes", 0.5, "x the drain of narrow rows", of_narrow, why=FULL),
        Requirement(
            "six user indexes, fillfactor 70", 90, "% of the claims HOT", hot, digits=0, why=FULL
        ),
    ],
    about=(
        "Each row has two texts and six indexes that do not concern its state; its table has "
        "a fillfactor of 70. Once one row in five is due, as in a table of which a part is worked "
        "on, and once every row. What has to hold is judged by the less favourable one of both. "
        "The column *HOT* has the updates that no index heard of, for each row: a claim may be "
        "one, a settling never is."
    ),
)

"""What MariaDB and MySQL know about a table without counting."""

from __future__ import annotations

import random
from typing import Any

from django.db.models import Count, IntegerField, Max, Min, QuerySet

from django_fsmworker.store.statistics import SAMPLED, Statistics


class MySQLStatistics(Statistics):
    """A sample, where keys are numbers; else the optimizer's estimates, of which half the table is
    the most that it believes of any stretch of an index.
    """

    def rows_by_state(self, model: Any) -> tuple[dict[str, int], bool]:
        rows: QuerySet[Any] = QuerySet(model, using=self.alias)
        if isinstance(model._meta.pk, IntegerField):
            return self._sampled(rows)
        return {
            state: self.number_of(rows.filter(state=state)) for state in self._states(rows)
        }, True

    def number_of(self, rows: QuerySet[Any]) -> int:
        sql, params = rows.order_by().values("pk").query.get_compiler(self.alias).as_sql()
        with self.connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {sql}", params)
            at = [column[0] for column in cursor.description].index("rows")
            return int(cursor.fetchone()[at] or 0)

    def count_up_to(self, rows: QuerySet[Any], most: int) -> tuple[int, bool]:
        return self.counted_or_estimated(rows, most)

    def _sampled(self, rows: QuerySet[Any]) -> tuple[dict[str, int], bool]:
        """From rows with keys drawn at random; those that are not there are gaps."""
        ends = rows.aggregate(first=Min("pk"), last=Max("pk"))
        keys = range(ends["first"] or 0, (ends["last"] or 0) + 1)
        drawn = sorted(random.sample(keys, min(SAMPLED, len(keys))))
        counted = rows.filter(pk__in=drawn).order_by().values_list("state")
        return {
            state: round(number * len(keys) / len(drawn))
            for state, number in counted.annotate(number=Count("*"))
        }, len(drawn) < len(keys)

    @staticmethod
    def _states(rows: QuerySet[Any]) -> list[str]:
        """All states that rows are in: a look-up in the index for each."""
        by_state = rows.order_by("state").values_list("state", flat=True)
        found: list[str] = []
        state = by_state.first()
        while state is not None:
            found.append(state)
            state = by_state.filter(state__gt=state).first()
        return found

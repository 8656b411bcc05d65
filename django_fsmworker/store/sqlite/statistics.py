"""What can be said of a large table in SQLite, which keeps few statistics: what a sample says."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from django.db.models import Count, QuerySet

from django_fsmworker.store.statistics import SAMPLED, Finding, Statistics
from django_fsmworker.store.tables import table_for


class SQLiteStatistics(Statistics):
    """Rows are looked up by row ids drawn at random; those that are not there are gaps."""

    def rows_by_state(self, model: Any) -> tuple[dict[str, int], bool]:
        name = table_for(model, self.alias).name
        ends = f"SELECT (SELECT MIN(rowid) FROM {name}), (SELECT MAX(rowid) FROM {name})"
        ((first, last),) = self.fetch(ends)
        ids = range(first or 0, (last or 0) + 1)
        if len(ids) <= SAMPLED:
            return super().rows_by_state(model)
        drawn = json.dumps(random.sample(ids, SAMPLED))
        rows: QuerySet[Any] = QuerySet(model, using=self.alias)
        rows = rows.extra(
            where=[f"{name}.rowid IN (SELECT value FROM json_each(%s))"], params=[drawn]
        )
        counted = rows.order_by().values_list("state").annotate(number=Count("*"))
        return {state: round(number * len(ids) / SAMPLED) for state, number in counted}, True

    def examine_table(self, model: Any) -> Iterator[Finding]:
        indexes = self.fetch(f"PRAGMA index_list({table_for(model, self.alias).name})")
        yield from self.absent_indexes(model, [name for _, name, *_others in indexes])

"""Rows of one model, laid out to be run: what the engine and the raw SQL have in common."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.apps import apps
from django.db import connections

from benchmarks import costs, database
from benchmarks.contenders.interface import Contender
from benchmarks.peers.harness import paced
from benchmarks.processes import outer_environment
from benchmarks.runlog import VARIABLE
from tests.databases import database_url

BATCH = 5000


class RowContender(Contender):
    """Due rows of a model, named as here, in the database behind `alias`; each ends in `target`."""

    def __init__(
        self, model: str, alias: str = "default", *, target: str = "done", steps: int = 1
    ) -> None:
        self.model: Any = apps.get_model("benchmarks", model)
        self.alias = alias
        self.url = self._direct = database_url(connections[alias].settings_dict)
        self._target = target
        self._steps = steps
        self._keys: list[int] = []

    @property
    def rows(self) -> Any:
        return self.model.objects.using(self.alias)

    def prepare(self, number: int) -> Sequence[int]:
        self.clear()
        made = self.rows.bulk_create(self.new_rows(number), batch_size=BATCH)
        self._keys = [row.pk for row in made]
        database.tidy(self.alias, self.model)
        return [self._steps * key + step for key in self._keys for step in range(self._steps)]

    def clear(self) -> None:
        """What an earlier run has left goes."""
        database.empty(self.alias, self.model)

    def new_rows(self, number: int) -> list[Any]:
        return [self.model() for _ in range(number)]

    def hand_over(self, number: int, seconds: float) -> dict[int, float]:
        moments: dict[int, float] = {}
        for _ in paced(0, number, seconds):
            row = self.rows.create()
            moments[row.pk] = self._late_from(row)
            self._keys.append(row.pk)
        return moments

    @staticmethod
    def _late_from(row: Any) -> float:
        """Now, in the monotonic clock; for a row that is due later, then."""
        wait: float = row.state_next.timestamp() - time.time()
        return time.monotonic() + max(0.0, wait)

    def left(self) -> int:
        prepared = self.rows.filter(pk__range=(self._keys[0], self._keys[-1]))
        number: int = len(self._keys) - prepared.filter(state=self._target).count()
        return number

    def counters(self) -> costs.Counters:
        connection = connections[self.alias]
        if getattr(connection, "pg_version", 0) >= costs.REPORTS_SINCE:
            with connection.cursor() as cursor:
                cursor.execute(costs.REPORT)
        return costs.counters(self._direct, self.model._meta.db_table)

    def environment(self, folder: Path) -> dict[str, str]:
        """That of a process which works on these rows."""
        return {
            **outer_environment(),
            "DATABASE_URL": self.url,
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "PYTHONUNBUFFERED": "1",
            VARIABLE: str(folder),
        }

    @staticmethod
    def python(*arguments: str) -> list[str]:
        return [sys.executable, *arguments]

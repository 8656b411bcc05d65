"""The floor: the same rows moved by two batched statements in turn, by hand-written SQL."""

from __future__ import annotations

from pathlib import Path

from benchmarks.contenders.rows import RowContender
from benchmarks.processes import Worker

NAME = "raw SQL"
PLAIN, TUNED = "plain", "tuned"


class RawSQL(RowContender):
    """
    ``tuned`` to the planner's habits, or ``plain``, as one would write it first.

    They differ on PostgreSQL only. Ratios are those to the tuned one.
    """

    name = NAME

    def __init__(self, model: str, alias: str = "default", settings: str = TUNED) -> None:
        super().__init__(model, alias)
        self.settings = settings

    def start(self, folder: Path) -> Worker:
        table = self.model._meta.db_table
        command = self.python("-m", "benchmarks.floor", table, self.settings)
        return Worker(command, self.environment(folder), folder)

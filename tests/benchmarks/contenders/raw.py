"""The floor: the same rows moved by two batched statements in turn, by hand-written SQL."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.contenders.rows import RowContender
from tests.benchmarks.processes import Worker

NAME = "raw SQL"


class RawSQL(RowContender):
    """``plain`` SQL as one would write it first, or ``tuned`` to the planner's habits."""

    name = NAME

    def __init__(self, model: str, alias: str = "default", settings: str = "plain") -> None:
        super().__init__(model, alias)
        self.settings = settings

    def start(self, folder: Path) -> Worker:
        table = self.model._meta.db_table
        command = self.python("-m", "tests.benchmarks.floor", table, self.settings)
        return Worker(command, self.environment(folder), folder)

"""This package, as its users run it: ``runstator`` in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders.rows import RowContender
from tests.benchmarks.processes import Worker

NAME = "django-fsmworker"


class Engine(RowContender):
    """``runstator`` for one model; ``settings`` tells in print what is special about it."""

    name = NAME

    def __init__(
        self,
        model: str,
        alias: str = "default",
        *,
        settings: str | None = None,
        options: Sequence[str] = (),
        url: str | None = None,
        **rows: Any,
    ) -> None:
        super().__init__(model, alias, **rows)
        self.settings = settings or " ".join(options) or "default"
        self._options = options
        self.url = url or self.url

    def labels(self) -> Sequence[str]:
        """The models that are run."""
        return [self.model._meta.label]

    def start(self, folder: Path) -> Worker:
        command = self.python("-m", "django", "runstator", *self.labels(), *self._options)
        return Worker(command, self.environment(folder), folder)

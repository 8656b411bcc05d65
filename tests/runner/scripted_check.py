"""The check of one of Letter's states, plain or async, that answers what the test says."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from tests.app.models import Letter
from tests.app.models.letters import CHECKS

STATES = {"plain": "new", "async": "flying"}


class ScriptedCheck:
    """Keeps the keys of the rows of every call, takes as long as it is told, then answers.

    Keys are sorted: rows that are due at the same moment are claimed in any order.
    """

    def __init__(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kind = kind
        self.state = STATES[kind]
        self.calls: list[list[int]] = []
        self.answer: Callable[[list[Letter]], Any] = lambda rows: "done"
        self.takes: Callable[[list[Letter]], float] = lambda rows: 0.0
        self.on_a_thread = False  # the answer, where an async check asks the database for it
        self.open = threading.Event()
        self.open.set()
        monkeypatch.setitem(CHECKS, self.state, self._plain if kind == "plain" else self._async)

    def letters(self, number: int, **values: Any) -> list[Letter]:
        """So many letters in the state with this check."""
        rows = [Letter(state=self.state, **values) for _ in range(number)]
        return Letter.objects.bulk_create(rows)

    @property
    def sizes(self) -> list[int]:
        """How many rows each call had."""
        return [len(call) for call in self.calls]

    @property
    def concurrency(self) -> str:
        """The setting that says how many of these checks run at once."""
        return "concurrency" if self.kind == "plain" else "async_concurrency"

    def _plain(self, rows: list[Letter]) -> Any:
        for pause in self._pauses(rows):
            time.sleep(pause)
        return self.answer(rows)

    async def _async(self, rows: list[Letter]) -> Any:
        for pause in self._pauses(rows):
            await asyncio.sleep(pause)
        if self.on_a_thread:
            return await sync_to_async(self.answer)(rows)
        return self.answer(rows)

    def _pauses(self, rows: list[Letter]) -> Any:
        self.calls.append(sorted(row.pk for row in rows))
        end = time.monotonic() + self.takes(rows)
        while time.monotonic() < end or not self.open.is_set():
            yield 0.005

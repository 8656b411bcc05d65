"""Which of the package's files a piece of work passes: those of which a function is called.

The work runs in a process of its own, called by ``shell -c``. A profile function is no guest for a
process that has run other tests: while an exception waits to arrive in a thread that is stuck,
Python 3.11 calls no profiled function to its end (it takes up the same instruction for ever).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import django_fsmworker
from django_fsmworker.runner import StatorRunner
from tests.app.models import Noop
from tests.waiting import eventually

ROOT = Path(django_fsmworker.__file__).parent
MAIN, CHECK, SETTLER = "main-loop", "fsmworker-check", "fsmworker-settler"


class FilesPassed:
    """Notes the files while it is ``on``; a profile function of Python's."""

    def __init__(self) -> None:
        self.on = False
        self._paths: dict[str, set[str]] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if self.on and event == "call" and code.co_name != "<module>":
            self._paths.setdefault(threading.current_thread().name, set()).add(code.co_filename)

    def take(self, *threads: str) -> set[Path]:
        """The package's files noted since the last time, by threads whose names begin so."""
        paths, self._paths = self._paths, {}
        found = {
            Path(path)
            for thread, noted in paths.items()
            if thread.startswith(threads)
            for path in noted
        }
        return {path.relative_to(ROOT) for path in found if ROOT in path.parents}


def from_claim_to_settling() -> None:
    """With what the loop does beside each row; the first has looked up what is looked up once.

    What every row passes counts: the question about pauses, say, comes up now and then.
    """
    passed = FilesPassed()
    threading.setprofile(passed)
    runner = StatorRunner([Noop], concurrency=1, poll_interval=0.2)
    running = threading.Thread(target=runner.run, name=MAIN)
    running.start()
    eventually(lambda: runner.hints.active)  # so that no probe is on its way
    found = []
    for _ in range(4):
        row = Noop.objects.create()
        eventually(_is_settled(runner, row))
        passed.on = False
        found.append(passed.take(MAIN, CHECK, SETTLER))
        passed.on = True
    passed.on = False
    runner.stop()
    running.join(30)
    print(*sorted(map(str, set.intersection(*found[1:]))))


def _is_settled(runner: StatorRunner, row: Noop) -> Callable[[], bool]:
    done = Noop.objects.filter(pk=row.pk, state="done")
    return lambda: done.exists() and not runner.status().in_flight


def assigned_and_saved() -> None:
    """Once the process knows its models and its database."""
    first, second = Noop.objects.create(), Noop.objects.create()
    first.state = "done"
    first.save()
    second.state = "done"
    passed = FilesPassed()
    passed.on = True
    sys.setprofile(passed)
    second.save()
    sys.setprofile(None)
    print(*sorted(map(str, passed.take(""))))

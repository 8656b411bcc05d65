"""The one transition: its side effect notes the row, by what the worker was given for that."""

from __future__ import annotations

from typing import Any

from django_logic import Process
from django_logic.background import BackgroundTransition

from benchmarks.runlog import noter


def note(instance: Any, **kwargs: Any) -> None:
    # Each attempt is a process of its own, so it needs a log of its own.
    noter()(instance.pk)


class JobProcess(Process):
    transitions = [
        BackgroundTransition(
            action_name="run",
            sources=["new"],
            target="done",
            in_progress_state="running",
            side_effects=[note],
        )
    ]

"""The stacks of all threads of this process, and of the coroutines of its event loops."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
import traceback
from collections.abc import Iterable
from typing import Any

LONGEST = 200_000


def stacks(loops: Iterable[asyncio.AbstractEventLoop] = ()) -> str:
    """A text with the stack of each thread and of each task of ``loops``, the latest call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for number, frame in sorted(sys._current_frames().items()):
        lines = "".join(traceback.format_stack(frame))
        parts.append(f"Thread {names.get(number, number)}:\n{lines}")
    parts += [_stack_of(task) for loop in loops for task in _tasks(loop)]
    return "\n".join(parts)[:LONGEST]


def _tasks(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    try:
        return sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    except RuntimeError:  # they change too fast to be listed from another thread
        return []


def _stack_of(task: asyncio.Task[Any]) -> str:
    text = io.StringIO()
    task.print_stack(file=text)
    return f"Task {task.get_name()}:\n{text.getvalue()}"

"""Threads that use the database in a test: they close their connections and report how they end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from django.db import connections


class DatabaseThread(threading.Thread):
    """Runs `target` and closes this thread's connections; :meth:`result` waits for the outcome."""

    def __init__(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(name=f"test-{getattr(target, '__name__', 'thread')}", daemon=True)
        self._call = lambda: target(*args, **kwargs)
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error
        finally:
            connections.close_all()

    def result(self, seconds: float = 30.0) -> Any:
        """What `target` returned; raises what it raised, or fails if it takes longer."""
        self.join(seconds)
        assert not self.is_alive(), f"{self.name} still runs after {seconds:g} s"
        if self._error is not None:
            raise self._error
        return self._value

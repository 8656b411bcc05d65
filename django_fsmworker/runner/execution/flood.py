"""Lines of the log that are told once, and then counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

# Seconds.
WINDOW = 60.0
# Beyond so many causes at once the oldest are summed up early.
MOST_CAUSES = 1000


@dataclass(slots=True)
class Window:
    """What happened for one cause since ``began``: ``told`` lines, ``more`` that were left out.

    ``latest`` is what was said of the last one of these.
    """

    cause: Any
    began: float
    told: int = 0
    more: int = 0
    latest: Any = None


class Flood:
    """Tells which lines to leave out, by their causes; any thread may ask.

    A cause may have some lines in a window, which begins with the first of them. What was left out
    is summed up when the window is over. ``windows`` are those under way.
    """

    def __init__(self, window: float = WINDOW, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self.windows: dict[Hashable, Window] = {}  # in the order in which they began

    def lets_pass(self, cause: Hashable, latest: Any, most: int = 1) -> bool:
        """Whether the line is to be written; one that is not is counted."""
        with self._lock:
            window = self.windows.get(cause)
            if window is None:
                window = self.windows[cause] = Window(cause, self._clock())
            if window.told < most:
                window.told += 1
                return True
            window.more += 1
            window.latest = latest
            return False

    def over(self, *, all: bool = False) -> list[Window]:
        """The windows that are over (or all), which end here; those with lines left out."""
        began, ended = self._clock() - self._window, []
        with self._lock:
            while self.windows:
                cause, window = next(iter(self.windows.items()))
                if not all and window.began > began and len(self.windows) <= MOST_CAUSES:
                    break
                del self.windows[cause]
                ended.append(window)
        return [window for window in ended if window.more]

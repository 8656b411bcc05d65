"""The proof that each row was handled once: nothing missing, nothing doubled, nothing left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def problems(expected: Iterable[int], handled: Iterable[int], left: int = 0) -> list[str]:
    """Sentences about what is wrong; none if each of `expected` was handled exactly once.

    ``left``: rows or jobs that the store does not hold as finished, in the right state.
    """
    asked, times = Counter(expected), Counter(handled)
    missing = (asked - times).total()
    doubled = {key: times[key] - asked[key] for key in times if key in asked}
    again = sum(more for more in doubled.values() if more > 0)
    strange = sum(number for key, number in times.items() if key not in asked)
    found = [
        (missing, f"of {asked.total():,} never ran"),
        (again, f"of {asked.total():,} ran again"),
        (strange, "ran that nobody had asked for"),
        (left, "are not finished in the store"),
    ]
    return [f"{number:,} {what}" for number, what in found if number]

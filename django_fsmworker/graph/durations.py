"""Durations as users write them: a number of seconds or a ``timedelta``."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

from django_fsmworker.exceptions import GraphError

Duration: TypeAlias = float | timedelta
"""A time as users give it: a number of seconds or a ``timedelta``."""

# Added to today's date, anything much longer would leave the range of a datetime, and it would do
# so in the runner, in the middle of a write.
LONGEST = timedelta(days=36525).total_seconds()


def as_seconds(value: object, name: str, *, above_zero: bool = False) -> float:
    """The duration ``value`` in seconds; ``name`` is what the error calls it.

    Raises ``GraphError`` for anything but a finite number or a ``timedelta`` from zero (or, with
    ``above_zero``, from above zero) to 100 years.
    """
    shown = f"{name}={value!r}"
    number = value.total_seconds() if isinstance(value, timedelta) else value
    # Only NaN differs from itself; math.isnan() would stumble over an int beyond any float.
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number:
        raise GraphError(f"{shown} is not a duration; give a number of seconds or a timedelta.")
    if above_zero and number <= 0:
        raise GraphError(f"{shown} is not above zero; give more than 0 seconds.")
    if number < 0:
        raise GraphError(f"{shown} is negative; give 0 seconds or more.")
    if number > LONGEST:
        raise GraphError(f"{shown} is longer than 100 years; give fewer seconds.")
    return float(number)


def earliest(one: float | None, other: float | None) -> float | None:
    """The shorter of two durations in seconds; None for one that is not given."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


# The units of a length of time, the largest first, in seconds.
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def span(time: float | timedelta) -> str:
    """A length of time in its two largest units: ``3 h 20 min``, ``42 s``, ``0.4 s``, ``7 ms``."""
    seconds = abs(time.total_seconds() if isinstance(time, timedelta) else time)
    if seconds < 0.1:
        return f"{milliseconds} ms" if (milliseconds := round(seconds * 1000)) else "0 s"
    if seconds < 1:
        return f"{seconds:.1g} s"
    parts: list[str] = []
    left = round(seconds)
    for size, unit in UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))

"""Backoff: the time to wait after a failure, from the number of failures in a row.

Only failures are spread by jitter; a state's plain ``retry_after`` stays exact.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeGuard

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.durations import LONGEST, Duration, as_seconds

Backoff: TypeAlias = Callable[[int], Duration]
"""What ``State(backoff=…)`` takes: a callable from failures in a row, 1 or more, to a duration."""


def exponential(
    base: Duration, factor: float = 2.0, cap: Duration = 3600.0, jitter: float = 0.1
) -> Exponential:
    """A backoff that grows by a factor with every failure.

    Jitter keeps rows that failed together from coming back together: Marc Brooker, "Exponential
    Backoff And Jitter", AWS Architecture Blog, 2015; as a share of the wait, as in gRPC's
    "Connection Backoff Protocol".

    Args:
        base: Wait after the first failure, in seconds or as a ``timedelta``.
        factor: How many times longer each further wait is, 1 or more.
        cap: Longest wait, in seconds or as a ``timedelta``; an hour by default.
        jitter: Share from 0 to 1 by which a wait is made randomly shorter or longer.

    Raises:
        GraphError: A value is wrong.
    """
    return Exponential(
        as_seconds(base, "exponential base", above_zero=True),
        _at_least_one(factor, "exponential factor"),
        as_seconds(cap, "exponential cap", above_zero=True),
        _share(jitter, "exponential jitter"),
    )


def linear(step: Duration, cap: Duration = 3600.0, jitter: float = 0.1) -> Linear:
    """A backoff that grows by the same time with every failure.

    Args:
        step: Wait after the first failure, and how much longer each further wait is, in seconds or
            as a ``timedelta``.
        cap: Longest wait, in seconds or as a ``timedelta``; an hour by default.
        jitter: Share from 0 to 1 by which a wait is made randomly shorter or longer.

    Raises:
        GraphError: A value is wrong.
    """
    return Linear(
        as_seconds(step, "linear step", above_zero=True),
        as_seconds(cap, "linear cap", above_zero=True),
        _share(jitter, "linear jitter"),
    )


def constant(delay: Duration, jitter: float = 0.0) -> Constant:
    """A backoff that stays the same, however many failures there were.

    Args:
        delay: Wait after every failure, in seconds or as a ``timedelta``.
        jitter: Share from 0 to 1 by which a wait is made randomly shorter or longer; 0 by default.

    Raises:
        GraphError: A value is wrong.
    """
    return Constant(
        as_seconds(delay, "constant delay", above_zero=True),
        _share(jitter, "constant jitter"),
    )


@dataclass(frozen=True)
class Exponential:
    """The backoff that ``exponential()`` returns; times are seconds."""

    base: float
    factor: float
    cap: float
    jitter: float

    def __call__(self, failures: int) -> float:
        try:
            wait = self.base * self.factor ** (max(failures, 1) - 1)
        except OverflowError:
            wait = self.cap
        return _spread(wait, self.cap, self.jitter)

    def __repr__(self) -> str:
        return (
            f"exponential(base={self.base}, factor={self.factor},"
            f" cap={self.cap}, jitter={self.jitter})"
        )


@dataclass(frozen=True)
class Linear:
    """The backoff that ``linear()`` returns; times are seconds."""

    step: float
    cap: float
    jitter: float

    def __call__(self, failures: int) -> float:
        return _spread(self.step * max(failures, 1), self.cap, self.jitter)

    def __repr__(self) -> str:
        return f"linear(step={self.step}, cap={self.cap}, jitter={self.jitter})"


@dataclass(frozen=True)
class Constant:
    """The backoff that ``constant()`` returns; times are seconds."""

    delay: float
    jitter: float

    def __call__(self, failures: int) -> float:
        return _spread(self.delay, LONGEST, self.jitter)

    def __repr__(self) -> str:
        return f"constant(delay={self.delay}, jitter={self.jitter})"


def _spread(wait: float, cap: float, jitter: float) -> float:
    # The cap bounds the range, not the result: cutting off the result would put half of all rows
    # that have reached the cap at exactly the same wait.
    wait = min(wait, cap)
    return random.uniform(wait * (1 - jitter), min(wait * (1 + jitter), cap))


def _at_least_one(value: object, name: str) -> float:
    if not _is_number(value) or not 1 <= value <= sys.float_info.max:
        raise GraphError(f"{name}={value!r} is not a number of 1 or more.")
    return float(value)


def _share(value: object, name: str) -> float:
    if not _is_number(value) or not 0 <= value <= 1:
        raise GraphError(f"{name}={value!r} is not a share from 0 to 1.")
    return float(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""What a state declares so that one neighbour cannot starve the rest: limits, rates, shares."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypedDict

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph.durations import Duration, as_seconds

Weight: TypeAlias = Callable[[Any], float]
"""From the value of the state's key column to that key's weight, above zero; 1 is usual."""

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
RATE = re.compile(r"(\d+)\s*/\s*([smh])")
MOST_PERMITS = 10_000
HIGHEST_PRIORITY = 9


@dataclass(frozen=True, slots=True)
class Rate:
    """So many attempts in so much time, in the whole fleet, on the database's clock.

    Args:
        amount: Attempts, at least 1.
        per: The time in which they may begin, above zero.
        burst: Attempts that may begin at once after a quiet time, at least 1. None, the default, is
            what the rate allows in one second.

    Raises:
        GraphError: A value is wrong.
    """

    amount: int
    per: Duration = 1
    burst: int | None = None

    def __post_init__(self) -> None:
        if not _is_whole(self.amount):
            raise GraphError(f"rate of {self.amount!r} is not a whole number from 1 on; give one.")
        as_seconds(self.per, "per", above_zero=True)
        if self.burst is not None and not _is_whole(self.burst):
            raise GraphError(f"burst={self.burst!r} is not a whole number from 1 on; give one.")

    @classmethod
    def parse(cls, text: str, burst: int | None = None) -> Rate:
        """The rate that ``"100/m"`` means: a number for each second (s), minute (m) or hour (h)."""
        found = RATE.fullmatch(text.strip())
        if found is None:
            raise GraphError(
                f"rate={text!r} is not a rate; give a number and s, m or h, such as '100/m'."
            )
        return cls(int(found[1]), UNITS[found[2]], burst)

    @property
    def interval(self) -> float:
        """Seconds from one attempt to the next at this rate."""
        return as_seconds(self.per, "per") / self.amount

    @property
    def depth(self) -> int:
        """Attempts that may begin at once after a quiet time."""
        return self.burst or max(1, math.ceil(1 / self.interval))

    def __str__(self) -> str:
        return f"{self.amount} in {as_seconds(self.per, 'per'):g} s"


@dataclass(frozen=True, slots=True)
class Breaker:
    """Pauses a state whose checks mostly fail, and tries one row before it goes on.

    Each process counts the attempts that it made itself. The pause holds for the whole fleet. When
    it is over, one row is tried: if that does not fail, all go on, otherwise the pause begins anew.

    Args:
        failures: The part of attempts that fail from which on the state is paused, above 0 and at
            most 1.
        over: How far back attempts count, above zero.
        pause: How long the state is paused, above zero.
        least: Fewer attempts than this never pause the state.

    Raises:
        GraphError: A value is wrong.
    """

    failures: float = 0.5
    over: Duration = 60
    pause: Duration = 30
    least: int = 10

    def __post_init__(self) -> None:
        if not _is_part(self.failures):
            raise GraphError(
                f"Breaker(failures={self.failures!r}) is no part of all attempts; give more than 0 "
                "and at most 1."
            )
        as_seconds(self.over, "over", above_zero=True)
        as_seconds(self.pause, "pause", above_zero=True)
        if not _is_whole(self.least):
            raise GraphError(f"least={self.least!r} is not a whole number from 1 on; give one.")

    @property
    def window(self) -> float:
        """``over`` in seconds."""
        return as_seconds(self.over, "over")

    @property
    def pause_seconds(self) -> float:
        """``pause`` in seconds."""
        return as_seconds(self.pause, "pause")


class LimitOptions(TypedDict, total=False):
    """The options of a ``State`` that limit its rows; documented there."""

    limit: int | None
    limit_by: str | None
    rate: str | Rate | None
    rate_by: str | None
    burst: int | None
    fair_by: str | None
    weight: Weight | None
    priority: int | str | None
    share: float | None
    breaker: Breaker | None


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one state, as they were declared. None of them is on by default.

    ``key`` is the column of the row's own table by which rows are told apart: all of ``limit_by``,
    ``rate_by`` and ``fair_by`` name the same, or ``priority`` names it.
    """

    limit: int | None = None
    limit_by: str | None = None
    rate: Rate | None = None
    rate_by: str | None = None
    fair_by: str | None = None
    weight: Weight | None = None
    priority: int | str | None = None
    share: float | None = None
    breaker: Breaker | None = None

    @classmethod
    def declared(cls, options: Mapping[str, Any], refuse: Callable[[str], None]) -> Limits:
        """The limits that these options declare; what is wrong is refused in sentences."""
        given = {name: value for name, value in options.items() if value is not None}
        if not given:
            return NO_LIMITS
        found = _unless_refused(given, refuse)
        burst = given.pop("burst", None)
        given["rate"] = _rate_of(given.get("rate"), burst, refuse)
        return cls(**given) if found else NO_LIMITS

    @property
    def key(self) -> str | None:
        """Name of the column by whose values rows are claimed; None without one."""
        by = self.limit_by or self.rate_by or self.fair_by
        return by or (self.priority if isinstance(self.priority, str) else None)

    @property
    def is_ranked(self) -> bool:
        """Whether rows are claimed by the priority that a column of theirs gives them."""
        return isinstance(self.priority, str)

    @property
    def rank(self) -> int:
        """The priority of the state itself: states with a higher one are claimed first."""
        return self.priority if isinstance(self.priority, int) else 0

    @property
    def are_asked(self) -> bool:
        """Whether something has to be asked before rows of the state may be claimed."""
        return self.key is not None or self.limit is not None or self.rate is not None

    @property
    def beyond_a_share(self) -> bool:
        """Whether there is a limit of the fleet's: a share is one of each process's own."""
        return replace(self, share=None) != NO_LIMITS

    def __bool__(self) -> bool:
        return self != NO_LIMITS


NO_LIMITS = Limits()


def _is_whole(value: object) -> bool:
    return type(value) is int and value >= 1


def _is_part(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1


def _rate_of(given: Any, burst: Any, refuse: Callable[[str], None]) -> Rate | None:
    if given is None:
        if burst is not None:
            refuse("burst is the burst of a rate, and it has none; give rate, or remove burst.")
        return None
    if isinstance(given, Rate):
        if burst is not None:
            refuse("burst is given twice; give it to Rate() only.")
        return given
    try:
        if isinstance(given, str):
            return Rate.parse(given, burst)
        refuse(f"rate={given!r} is not a rate; give a text such as '100/m', or a Rate.")
    except GraphError as error:
        refuse(str(error))
    return None


def _unless_refused(given: Mapping[str, Any], refuse: Callable[[str], None]) -> bool:
    """Whether the values, but the rate, are right; the first that is not is refused."""
    fault = next((fault for rule in _RULES if (fault := rule(given))), None)
    if fault is not None:
        refuse(fault)
    return fault is None


def _columns_are_names(given: Mapping[str, Any]) -> str | None:
    for option in ("limit_by", "rate_by", "fair_by"):
        name = given.get(option)
        if name is not None and not (isinstance(name, str) and name.isidentifier()):
            return f"{option}={name!r} is not the name of a column; give one, as a str."
    return None


def _limit_is_a_number(given: Mapping[str, Any]) -> str | None:
    limit = given.get("limit")
    if limit is None or (_is_whole(limit) and limit <= MOST_PERMITS):
        return None
    return f"limit={limit!r} is not a whole number from 1 to {MOST_PERMITS}; give one."


def _nothing_by_itself(given: Mapping[str, Any]) -> str | None:
    for option, needed in (("limit_by", "limit"), ("rate_by", "rate"), ("weight", "fair_by")):
        if option in given and needed not in given:
            return f"{option} belongs to {needed}, and it has none; give {needed}, too."
    return None


def _one_key(given: Mapping[str, Any]) -> str | None:
    options = ("limit_by", "rate_by", "fair_by")
    named = {option: given[option] for option in options if option in given}
    if len(set(named.values())) > 1:
        shown = " and ".join(f"{option}={name!r}" for option, name in named.items())
        return f"{shown} name different columns, and a state has one key; name the same column."
    if named and isinstance(given.get("priority"), str):
        option = next(iter(named))
        return (
            f"{option} and a priority={given['priority']!r} that is a column exclude each other, "
            "because a state has one key; give priority a number, or leave one of them out."
        )
    return None


def _weight_is_callable(given: Mapping[str, Any]) -> str | None:
    weight = given.get("weight")
    if weight is None or callable(weight):
        return None
    return f"weight={weight!r} is not callable; give a callable from a key to its weight."


def _priority_in_range(given: Mapping[str, Any]) -> str | None:
    priority = given.get("priority")
    if priority is None or (isinstance(priority, str) and priority.isidentifier()):
        return None
    if type(priority) is int and 0 <= priority <= HIGHEST_PRIORITY:
        return None
    return (
        f"priority={priority!r} is neither a whole number from 0 to {HIGHEST_PRIORITY} nor the name"
        " of a column; give one of them."
    )


def _share_is_a_part(given: Mapping[str, Any]) -> str | None:
    share = given.get("share")
    if share is None or _is_part(share):
        return None
    return f"share={share!r} is no part of all slots; give more than 0 and at most 1."


def _breaker_is_one(given: Mapping[str, Any]) -> str | None:
    breaker = given.get("breaker")
    if breaker is None or isinstance(breaker, Breaker):
        return None
    return f"breaker={breaker!r} is no Breaker; give one, such as Breaker(failures=0.5)."


_RULES = (
    _columns_are_names,
    _limit_is_a_number,
    _nothing_by_itself,
    _one_key,
    _weight_is_callable,
    _priority_in_range,
    _share_is_a_part,
    _breaker_is_one,
)

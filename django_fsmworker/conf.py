"""What a runner can be told, where it is told, and what holds when nobody says anything.

The order is: argument (constructor or command line), environment ``FSMWORKER_<NAME>``,
``settings.FSMWORKER["<NAME>"]``, the three settings of the ancestor (``STATOR_…``), default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any

from django.conf import settings as django_settings

from django_fsmworker.exceptions import ConfigurationError


def _seconds(value: Any) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def positive_seconds(value: Any) -> float:
    """Seconds above zero, from a number, a number's text or a ``timedelta``."""
    seconds = _seconds(value)
    if not 0 < seconds < float("inf"):
        raise ValueError
    return seconds


def seconds(value: Any) -> float:
    """Seconds of zero or more, from a number, a number's text or a ``timedelta``."""
    duration = _seconds(value)
    if not 0 <= duration < float("inf"):
        raise ValueError
    return duration


def positive_integer(value: Any) -> int:
    """A whole number above zero."""
    number = int(value)
    if number < 1 or isinstance(value, bool | float):
        raise ValueError
    return number


def path(value: Any) -> str:
    """The path of a file."""
    return str(os.fspath(value))


def boolean(value: Any) -> bool:
    """True or False, or a word for it."""
    return _BOOLEANS[str(value).lower()]


_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True} | {
    "false": False, "0": False, "no": False, "off": False
}  # fmt: skip

_EXPECTED: dict[Callable[[Any], Any], str] = {
    positive_seconds: "seconds above 0 (a number or a timedelta)",
    seconds: "seconds, 0 or more (a number or a timedelta)",
    positive_integer: "a whole number above 0",
    path: "the path of a file",
    boolean: "true or false",
}


def option(default: Any, reads: Callable[[Any], Any], ancestor: str | None = None) -> Any:
    """A field of ``RunnerSettings``: its default, its type, and what the ancestor called it."""
    return field(default=default, metadata={"reads": reads, "ancestor": ancestor})


@dataclass(frozen=True, kw_only=True)
class RunnerSettings:
    """Everything a runner can be told. Durations are seconds."""

    processes: int = option(1, positive_integer)
    concurrency: int = option(10, positive_integer, "STATOR_CONCURRENCY")
    concurrency_per_model: int | None = option(
        None, positive_integer, "STATOR_CONCURRENCY_PER_MODEL"
    )
    async_concurrency: int = option(200, positive_integer)
    async_threads: int = option(4, positive_integer)
    deadline: float = option(15.0, positive_seconds, "STATOR_TASK_DEADLINE")
    lease: float = option(30.0, positive_seconds)
    drain_timeout: float = option(30.0, seconds)
    poll_interval: float = option(5.0, positive_seconds)
    delete_interval: float = option(30.0, positive_seconds)
    delete_batch: int = option(500, positive_integer)
    claim_batch: int = option(1000, positive_integer)
    max_in_flight: int = option(4000, positive_integer)
    max_abandoned: int = option(10, positive_integer)
    abandon_after: float = option(0.5, seconds)
    watchdog_interval: float = option(60.0, positive_seconds)
    liveness_file: str | None = option(None, path)
    connect_timeout: float = option(30.0, seconds)
    hints: bool = option(True, boolean)

    @classmethod
    def names(cls) -> list[str]:
        """The name of every setting."""
        return [each.name for each in fields(cls)]

    @classmethod
    def load(cls, **arguments: Any) -> RunnerSettings:
        """The settings in force; an argument that is None counts as not given."""
        configured = getattr(django_settings, "FSMWORKER", {})
        known = {each.name: each for each in fields(cls)}
        if unknown := sorted(arguments.keys() - known.keys()):
            raise TypeError(
                f"a runner has no option {unknown[0]!r}; the options are {', '.join(known)}."
            )
        _refuse_unknown(configured, {name.upper() for name in known})
        values = {}
        for name, each in known.items():
            found = _look_up(name, arguments.get(name), configured, each.metadata["ancestor"])
            if found is not None:
                values[name] = _read(*found, reads=each.metadata["reads"])
        return cls(**values)


def _refuse_unknown(configured: Any, known: set[str]) -> None:
    if not isinstance(configured, Mapping):
        raise ConfigurationError(
            'settings.FSMWORKER is not a dictionary; write FSMWORKER = {"CONCURRENCY": 10}.'
        )
    for name in configured:
        if name not in known:
            raise ConfigurationError(
                f"settings.FSMWORKER has the unknown key {name!r}; "
                f"the keys are {', '.join(sorted(known))}."
            )


def _look_up(
    name: str, argument: Any, configured: Mapping[str, Any], ancestor: str | None
) -> tuple[str, Any] | None:
    """Where the first source that says anything about ``name`` is, and what it says."""
    variable = f"FSMWORKER_{name.upper()}"
    if argument is not None:
        return name, argument
    if os.environ.get(variable):
        return f"the environment variable {variable}", os.environ[variable]
    if configured.get(name.upper()) is not None:
        return f'settings.FSMWORKER["{name.upper()}"]', configured[name.upper()]
    if ancestor and getattr(django_settings, ancestor, None) is not None:
        return f"settings.{ancestor}", getattr(django_settings, ancestor)
    return None


def _read(where: str, value: Any, *, reads: Callable[[Any], Any]) -> Any:
    try:
        return reads(value)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ConfigurationError(
            f"{where} is {value!r}; it has to be {_EXPECTED[reads]}."
        ) from None

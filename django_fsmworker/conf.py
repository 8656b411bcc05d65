"""The settings of runners, of events and of the admin: names, sources, precedence, defaults.

The order is: argument (constructor or command line), environment ``FSMWORKER_<NAME>``,
``settings.FSMWORKER["<NAME>"]``, the three settings of the ancestor (``STATOR_…``), default.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from functools import cache
from typing import Any, Self

from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from django_fsmworker.exceptions import ConfigurationError

PREFIX = "FSMWORKER_"


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


def integer(value: Any) -> int:
    """A whole number of zero or more."""
    number = int(value)
    if number < 0 or isinstance(value, bool | float):
        raise ValueError
    return number


def port(value: Any) -> int:
    """The number of a TCP port; 0 is any that is free."""
    number = integer(value)
    if number > 65535:
        raise ValueError
    return number


def name_of_worker(value: Any) -> str:
    """A name that fits into a worker's id: letters, digits and some signs, up to 80 of them."""
    if not re.fullmatch(r"[\w.+:-]{1,80}", str(value)):
        raise ValueError
    return str(value)


def id_of_worker(value: Any) -> str:
    """A worker's whole id: as a name, and with ``@``, up to 160 characters."""
    if not re.fullmatch(r"[\w.+:@-]{1,160}", str(value)):
        raise ValueError
    return str(value)


def text(value: Any) -> str:
    """A text that is not empty."""
    if not value or not isinstance(value, str):
        raise ValueError
    return value


def path(value: Any) -> str:
    """The path of a file."""
    return str(os.fspath(value))


def boolean(value: Any) -> bool:
    """True or False, from a bool or a word for it."""
    return _BOOLEANS[str(value).lower()]


def dotted_path(value: Any) -> str:
    """The dotted path of a Python object."""
    if not isinstance(value, str):
        raise ValueError
    [path] = dotted_paths([value])
    return path


def dotted_paths(value: Any) -> tuple[str, ...]:
    """Dotted paths of Python objects, from a sequence of them or a text with commas between."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, Sequence):
        raise ValueError
    paths = tuple(str(each).strip() for each in given)
    if not all(re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", each) for each in paths):
        raise ValueError
    return paths


_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True} | {
    "false": False, "0": False, "no": False, "off": False
}  # fmt: skip

_EXPECTED: dict[Callable[[Any], Any], str] = {
    positive_seconds: "seconds above 0 (a number or a timedelta)",
    seconds: "seconds, 0 or more (a number or a timedelta)",
    positive_integer: "a whole number above 0",
    integer: "a whole number, 0 or more",
    path: "the path of a file",
    port: "the number of a port, 0 to 65535",
    name_of_worker: "1 to 80 letters, digits or any of . + : - _",
    id_of_worker: "1 to 160 letters, digits or any of . + : @ - _",
    text: "a text that is not empty",
    boolean: "true or false",
    dotted_path: "a dotted path",
    dotted_paths: "a list of dotted paths (in the environment: with commas between)",
}


def option(default: Any, reads: Callable[[Any], Any], ancestor: str | None = None) -> Any:
    """A field of ``RunnerSettings``: its default, its reader, and the ancestor's setting."""
    return field(default=default, metadata={"reads": reads, "ancestor": ancestor})


class Settings:
    """A group of settings, of which each has its own name."""

    @classmethod
    def names(cls) -> list[str]:
        """The name of every setting of the group."""
        return list(_fields_of(cls))  # type: ignore[arg-type]

    @classmethod
    def load(cls, **arguments: Any) -> Self:
        """The settings in force; an argument that is None counts as not given.

        Raises ``ConfigurationError`` for an unknown name in ``settings.FSMWORKER`` and for a value
        that cannot be read, and ``TypeError`` for an unknown argument.
        """
        configured = getattr(django_settings, "FSMWORKER", {})
        known = _fields_of(cls)  # type: ignore[arg-type]
        if unknown := sorted(arguments.keys() - known.keys()):
            raise TypeError(
                f"a runner has no option {unknown[0]!r}; the options are {', '.join(known)}."
            )
        _refuse_unknown(configured)
        values = {}
        for name, each in known.items():
            found = _look_up(name, arguments.get(name), configured, each.metadata["ancestor"])
            if found is not None:
                values[name] = _read(*found, reads=each.metadata["reads"])
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class RunnerSettings(Settings):
    """The settings of a runner.

    Durations are seconds; ``load`` reads those in force, and takes numbers, their texts and
    ``timedelta``. Each can be given as an argument, by the environment variable named here, and in
    ``settings.FSMWORKER`` under its name in capitals.
    """

    processes: int = option(1, positive_integer)
    """Runners that one ``runstator`` command starts; default 1; ``FSMWORKER_PROCESSES``."""
    concurrency: int = option(10, positive_integer, "STATOR_CONCURRENCY")
    """Sync checks that run at once, each on a thread; default 10; ``FSMWORKER_CONCURRENCY``."""
    concurrency_per_model: int | None = option(
        None, positive_integer, "STATOR_CONCURRENCY_PER_MODEL"
    )
    """Most checks of one model at once; default none; ``FSMWORKER_CONCURRENCY_PER_MODEL``."""
    async_concurrency: int = option(200, positive_integer)
    """``async def`` checks that run at once; default 200; ``FSMWORKER_ASYNC_CONCURRENCY``."""
    async_threads: int = option(4, positive_integer)
    """Threads that async checks call the ORM in; default 4; ``FSMWORKER_ASYNC_THREADS``."""
    deadline: float = option(15.0, positive_seconds, "STATOR_TASK_DEADLINE")
    """Seconds of an attempt whose state sets none; default 15; ``FSMWORKER_DEADLINE``."""
    lease: float = option(30.0, positive_seconds)
    """Seconds for which a claim holds a row without renewal; default 30; ``FSMWORKER_LEASE``."""
    drain_timeout: float = option(30.0, seconds)
    """Seconds that checks may go on after ``stop()``; default 30; ``FSMWORKER_DRAIN_TIMEOUT``."""
    poll_interval: float = option(5.0, positive_seconds)
    """Seconds between an idle runner's looks; default 5; ``FSMWORKER_POLL_INTERVAL``."""
    delete_interval: float = option(30.0, positive_seconds)
    """Seconds between searches for expired rows; default 30; ``FSMWORKER_DELETE_INTERVAL``."""
    delete_batch: int = option(500, positive_integer)
    """Expired rows deleted in one transaction; default 500; ``FSMWORKER_DELETE_BATCH``."""
    keep_transitions: float = option(90 * 86400.0, seconds)
    """Seconds that logs keep transitions, 0 for ever; 90 days; ``FSMWORKER_KEEP_TRANSITIONS``."""
    claim_batch: int = option(1000, positive_integer)
    """Rows that one claim takes at most, roughly; default 1000; ``FSMWORKER_CLAIM_BATCH``."""
    max_in_flight: int = option(4000, positive_integer)
    """Rows held, of sync and of async checks each; default 4000; ``FSMWORKER_MAX_IN_FLIGHT``."""
    max_in_flight_megabytes: int = option(256, integer)
    """What rows held may take; 0: any; default 256; ``FSMWORKER_MAX_IN_FLIGHT_MEGABYTES``."""
    max_abandoned: int = option(10, positive_integer)
    """Stuck checks beyond which the runner ends; default 10; ``FSMWORKER_MAX_ABANDONED``."""
    abandon_after: float = option(0.5, seconds)
    """Seconds that an interrupted check has to end; default 0.5; ``FSMWORKER_ABANDON_AFTER``."""
    watchdog_interval: float = option(60.0, positive_seconds)
    """Seconds in which the loop has to come round; default 60; ``FSMWORKER_WATCHDOG_INTERVAL``."""
    liveness_file: str | None = option(None, path)
    """File to touch while there is progress; default none; ``FSMWORKER_LIVENESS_FILE``."""
    connect_timeout: float = option(30.0, seconds)
    """Seconds to wait for databases at the start; default 30; ``FSMWORKER_CONNECT_TIMEOUT``."""
    hints: bool = option(True, boolean)
    """Whether hints are sent and listened for; default true; ``FSMWORKER_HINTS``."""
    worker_id: str | None = option(None, id_of_worker)
    """The worker's id in the registry; default a random one; ``FSMWORKER_WORKER_ID``."""
    worker_name: str | None = option(None, name_of_worker)
    """The worker's name; default from the models it serves; ``FSMWORKER_WORKER_NAME``."""
    heartbeat_interval: float = option(15.0, positive_seconds)
    """Seconds between signs of life, at most; default 15; ``FSMWORKER_HEARTBEAT_INTERVAL``."""
    heartbeat_timeout: float = option(45.0, positive_seconds)
    """Seconds without a sign of life, then it is lost; 45; ``FSMWORKER_HEARTBEAT_TIMEOUT``."""
    health_port: int | None = option(None, port)
    """Port of the pages on health; default none; ``FSMWORKER_HEALTH_PORT``."""
    health_host: str = option("127.0.0.1", text)
    """Address on which that port is; default 127.0.0.1; ``FSMWORKER_HEALTH_HOST``."""
    max_tasks: int | None = option(None, positive_integer)
    """Attempts after which a process ends itself; default none; ``FSMWORKER_MAX_TASKS``."""
    max_failures: int | None = option(None, positive_integer)
    """Failed attempts after which it ends itself; default none; ``FSMWORKER_MAX_FAILURES``."""
    max_memory: int | None = option(None, positive_integer)
    """Mebibytes in use beyond which it ends itself; default none; ``FSMWORKER_MAX_MEMORY``."""
    check_logger: str | None = option(None, text)
    """Logger of what checks come to; default the package's; ``FSMWORKER_CHECK_LOGGER``."""
    attempt_middleware: tuple[str, ...] | None = option(None, dotted_paths)
    """What is put around checks; default nothing; ``FSMWORKER_ATTEMPT_MIDDLEWARE``."""
    traces: bool = option(False, boolean)
    """Whether what it does is spans of OpenTelemetry; default false; ``FSMWORKER_TRACES``."""
    start_hooks: tuple[str, ...] | None = option(None, dotted_paths)
    """Called before a runner claims; default nothing; ``FSMWORKER_START_HOOKS``."""
    end_hooks: tuple[str, ...] | None = option(None, dotted_paths)
    """Called when it has settled all; default nothing; ``FSMWORKER_END_HOOKS``."""
    periodic_hooks: tuple[str, ...] | None = option(None, dotted_paths)
    """Called while it runs; default nothing; ``FSMWORKER_PERIODIC_HOOKS``."""
    hook_interval: float = option(60.0, positive_seconds)
    """Seconds between calls of the periodic hooks; default 60; ``FSMWORKER_HOOK_INTERVAL``."""

    def __post_init__(self) -> None:
        if self.heartbeat_timeout < 2 * self.heartbeat_interval:
            raise ConfigurationError(
                f"heartbeat_timeout is {self.heartbeat_timeout:g} s; it has to be at least twice "
                f"heartbeat_interval ({self.heartbeat_interval:g} s)."
            )


@dataclass(frozen=True, kw_only=True)
class EventSettings(Settings):
    """The settings of durable events.

    Each can be given by the environment variable named here, and in ``settings.FSMWORKER`` under
    its name in capitals. They are read when the application starts.
    """

    keep_events: float = option(7 * 86400.0, positive_seconds)
    """Seconds for which an event is kept after its end; default 7 days; ``FSMWORKER_KEEP_EVENTS``.
    """
    max_event_context: int = option(65536, positive_integer)
    """Most bytes of an event's context; default 65536; ``FSMWORKER_MAX_EVENT_CONTEXT``."""


@dataclass(frozen=True, kw_only=True)
class AdminSettings(Settings):
    """The settings of the pages in Django's admin.

    Each can be given by the environment variable named here, and in ``settings.FSMWORKER`` under
    its name in capitals. They are read for each page.
    """

    admin_redact: str | None = option(None, dotted_path)
    """Path of the function that redacts texts; default none; ``FSMWORKER_ADMIN_REDACT``."""
    admin_read_only: bool = option(False, boolean)
    """Whether the pages only show; default false; ``FSMWORKER_ADMIN_READ_ONLY``."""


@cache
def _fields_of(group: Any) -> Mapping[str, Field[Any]]:
    """By their names. Settings are read for each event and many times for a page of the admin."""
    return {each.name: each for each in fields(group)}


@cache
def _all_names() -> Sequence[str]:
    """The keys of ``settings.FSMWORKER``."""
    groups = (RunnerSettings, EventSettings, AdminSettings)
    return [name.upper() for group in groups for name in group.names()]


def imported(path: str, setting: str) -> Callable[..., Any]:
    """The function that ``setting`` names by its path; ``ConfigurationError`` if there is none."""
    try:
        found: Any = import_string(path)
    except ImportError as error:
        raise ConfigurationError(
            f"{setting} names {path}, which cannot be imported: {error}"
        ) from error
    if not callable(found):
        raise ConfigurationError(f"{setting} names {path}, which is no function.")
    return found  # type: ignore[no-any-return]


def unknown_variables() -> list[str]:
    """A sentence for each environment variable that looks like a setting, and is none.

    No error: where a service is called fsmworker, Kubernetes sets variables like FSMWORKER_PORT.
    """
    known = _all_names()
    sentences = []
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in known:
            meant = get_close_matches(name.removeprefix(PREFIX), known, n=1)
            remedy = f"did you mean {PREFIX}{meant[0]}?" if meant else "see the page on settings."
            sentences.append(f"The environment variable {name} is no setting of a runner; {remedy}")
    return sentences


def _refuse_unknown(configured: Any) -> None:
    if not isinstance(configured, Mapping):
        raise ConfigurationError(
            'settings.FSMWORKER is not a dictionary; write FSMWORKER = {"CONCURRENCY": 10}.'
        )
    for name in configured:
        if name not in _all_names():
            raise ConfigurationError(
                f"settings.FSMWORKER has the unknown key {name!r}; "
                f"the keys are {', '.join(sorted(_all_names()))}."
            )


def _look_up(
    name: str, argument: Any, configured: Mapping[str, Any], ancestor: str | None
) -> tuple[str, Any] | None:
    """The first source that has a value for ``name``, and the value."""
    variable = f"{PREFIX}{name.upper()}"
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

"""The exit codes of ``runstator``, and of the processes that a supervisor starts."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What an exit code of ``runstator`` means; 0 is a clean end."""

    CONFIGURATION = 1
    USAGE = 2
    TOO_MANY_ABANDONED = 3
    STALLED = 4
    LIMIT_REACHED = 5
    NOT_STARTED = 126
    """The process could not be started; shells use the same number."""


def of_signal(number: int) -> int:
    """The exit code of a process that ended at a signal, as a shell reports it."""
    return 128 + number


def as_exit_code(code: int) -> int:
    """A return code of ``subprocess`` as a shell would report it."""
    return of_signal(-code) if code < 0 else code


def in_words(code: int) -> str:
    """A return code of ``subprocess`` in words."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

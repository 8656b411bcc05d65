"""What a subcommand of ``manage.py stator`` is."""

from __future__ import annotations

import argparse
import getpass
from abc import ABC, abstractmethod
from datetime import timedelta
from enum import IntEnum
from typing import Any, ClassVar

from django.core.management.base import CommandError
from django.db import connections, router

from django_fsmworker.graph.durations import as_seconds
from django_fsmworker.management.labels import chosen_models
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.databases import Databases

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
OLDEST = 100 * 366 * 86400  # what databases have dates for


class ExitCode(IntEnum):
    """How the command ends; argparse ends it with 2 for a wrong usage."""

    DONE = 0
    ERROR = 1  # what Django makes of a CommandError
    FOUND = 3  # what was asked for has an answer that somebody should act on
    INTERRUPTED = 130  # what a shell says of a process that SIGINT has ended


class Subcommand(ABC):
    """Parses its options and prints; what it does is done by the layers below."""

    name: ClassVar[str]
    help: ClassVar[str]

    def __init__(self) -> None:
        self.databases = Databases()

    @abstractmethod
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its arguments; ``--json`` and ``--database`` are there already."""

    @abstractmethod
    def run(self, options: dict[str, Any], out: Output) -> int:
        """Run the subcommand with these options; returns the exit code."""


def add_label(parser: argparse.ArgumentParser) -> None:
    """The model whose rows it is about."""
    parser.add_argument("label", metavar="app.Model", help="the model that declares the state")


def add_required_reason(parser: argparse.ArgumentParser) -> None:
    """``--reason``, which may not be empty."""
    parser.add_argument(
        "--reason", type=_words, required=True, metavar="WHY", help="why; it is put on record"
    )


def add_by(parser: argparse.ArgumentParser) -> None:
    """The option ``--by``, which names who does something."""
    parser.add_argument("--by", default=login(), help="who does it (default: this login)")


def add_action(actions: Any, name: str, what: str) -> argparse.ArgumentParser:
    """An action of a subcommand, after whose name ``--json`` and ``--database`` may stand, too."""
    parser: argparse.ArgumentParser = actions.add_parser(name, help=what, description=what)
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    parser.add_argument(
        "--database", metavar="ALIAS", default=argparse.SUPPRESS, help="the database"
    )
    return parser


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Any number of models."""
    parser.add_argument(
        "labels", nargs="*", metavar="app.Model", help="models to look at (default: all)"
    )


def model_of(options: dict[str, Any]) -> Any:
    """The model that ``add_label()`` has read."""
    (model,) = chosen_models([options["label"]], [], None)
    return model


def alias_of(model: Any, options: dict[str, Any]) -> str:
    """The database in which the rows of ``model`` are meant."""
    alias = options["database"]
    if alias is not None and alias not in connections:
        raise CommandError(
            f"There is no database {alias!r}; DATABASES has {', '.join(connections)}."
        )
    return str(alias or router.db_for_write(model))


def whole_number(text: str) -> int:
    """An argparse type: how many, within what any database takes."""
    if not text.isdecimal() or not 0 < int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _words(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; say why, for those who will wonder")
    return text


def seconds(text: str) -> float:
    """An argparse type: a number of seconds."""
    try:
        return as_seconds(float(text), "")
    except ValueError:  # of which GraphError is one
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds from 0 to those of 100 years"
        ) from None


def age(text: str) -> timedelta:
    """An argparse type: 90s, 30m, 12h, 7d."""
    number, unit = text[:-1], text[-1:]
    seconds = int(number) * UNITS[unit] if unit in UNITS and number.isdecimal() else None
    if seconds is None or seconds > OLDEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age such as 90s, 30m, 12h or 7d")
    return timedelta(seconds=seconds)


def login() -> str:
    """Who uses the command, as far as this machine knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""

"""What a subcommand of ``manage.py stator`` is."""

from __future__ import annotations

import argparse
import getpass
from abc import ABC, abstractmethod
from enum import IntEnum
from typing import Any, ClassVar

from django.core.management.base import CommandError
from django.db import connections, router

from django_fsmworker.management.labels import (
    chosen_by_database,
    chosen_models,
    databases_named,
)
from django_fsmworker.management.output import Output
from django_fsmworker.workers import databases_of


class ExitCode(IntEnum):
    """How the command ends; argparse ends it with 2 for a wrong usage."""

    DONE = 0
    ERROR = 1  # what Django makes of a CommandError
    FOUND = 3  # what was asked for has an answer that somebody should act on


class Subcommand(ABC):
    """Parses its options and prints; what it does is done by the layers below."""

    name: ClassVar[str]
    help: ClassVar[str]

    @abstractmethod
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare its arguments; ``--json`` and ``--database`` are there already."""

    @abstractmethod
    def run(self, options: dict[str, Any], out: Output) -> int:
        """Do it; returns the exit code."""


def add_label(parser: argparse.ArgumentParser) -> None:
    """The model whose rows it is about."""
    parser.add_argument("label", metavar="app.Model", help="the model that declares the state")


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


def places_of(options: dict[str, Any]) -> list[tuple[Any, str]]:
    """The models that ``add_labels()`` has read, each with the alias of a database.

    There may be several of one model: those that ``--database`` names, or the one to which routers
    write it, and those in which a worker on record runs it.
    """
    aliases = databases_named(options["database"])
    if aliases:
        found = chosen_by_database(options["labels"], [], aliases)
        return [(model, alias) for alias, models in found.items() for model in models]
    models = chosen_models(options["labels"], [], None)
    return [(model, alias) for model, some in databases_of(models).items() for alias in some]


def alias_of(model: Any, options: dict[str, Any]) -> str:
    """The database in which the rows of ``model`` are meant."""
    alias = options["database"]
    if alias is not None and alias not in connections:
        raise CommandError(
            f"There is no database {alias!r}; DATABASES has {', '.join(connections)}."
        )
    return str(alias or router.db_for_write(model))


def login() -> str:
    """Who uses the command, as far as this machine knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""

"""``stator pause``, ``resume`` and ``pauses``: what is not run for a time."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from django_fsmworker.diagnosis.wording import in_utc
from django_fsmworker.exceptions import UnknownState
from django_fsmworker.management.labels import chosen_models, databases_named
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.databases import Databases
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    add_by,
    add_required_reason,
    seconds,
)
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.limits import Pause
from django_fsmworker.pauses import key_of_text, pause, paused, resume


class PauseSubcommand(Subcommand):
    """A subcommand about what is paused: a model, a state, a key, or (``--all``) everything."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "label", nargs="?", metavar="app.Model", help="the model that declares the state"
        )
        parser.add_argument("--all", action="store_true", help="every model")
        parser.add_argument("--state", help="one state of the model (default: all)")
        parser.add_argument(
            "--key", help="one value of the column by which that state is limited (default: all)"
        )
        add_by(parser)

    def named(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        """The arguments of ``pause()`` and ``resume()``, for each database in which that is run."""
        if bool(options["label"]) == options["all"]:
            raise CommandError("Name a model, or give --all for every one.")
        model = chosen_models([options["label"]], [], None)[0] if options["label"] else None
        named = {"model": model, "state": options["state"], "by": options["by"]}
        if options["key"] is not None:
            given = {"model": model, "state": options["state"], "text": options["key"]}
            named["key"] = _call(key_of_text, **given)
        aliases = _aliases(self.databases, options, model)
        return [{**named, "using": alias} for alias in aliases]


class PauseRows(PauseSubcommand):
    name = "pause"
    help = "Run nothing of a model, a state or a key until it is resumed; what runs goes on."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--for", dest="seconds", type=seconds, metavar="SECONDS",
            help="how long (default: until it is resumed)",
        )  # fmt: skip
        add_required_reason(parser)

    def run(self, options: dict[str, Any], out: Output) -> int:
        if options["seconds"] == 0:
            raise CommandError("A pause of 0 seconds is over at once; give --for more than 0.")
        given = {"until": options["seconds"], "reason": options["reason"]}
        named = self.named(options)
        records = [record for each in named for record in _call(pause, **each, **given)]
        out.data([_as_dict(each) for each in records])
        for each in records:
            out.line(f"{each} is paused{_where(each, records)}.")
        return ExitCode.DONE


class ResumeRows(PauseSubcommand):
    name = "resume"
    help = "Lift the pauses of a model, a state or a key, and of what is part of it."

    def run(self, options: dict[str, Any], out: Output) -> int:
        lifted = sum(_call(resume, **each) for each in self.named(options))
        out.data({"lifted": lifted})
        out.line(f"{lifted} {'pause' if lifted == 1 else 'pauses'} lifted.")
        return ExitCode.DONE


class ListPauses(Subcommand):
    name = "pauses"
    help = "List what is paused: by whom, why, and until when."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        pass

    def run(self, options: dict[str, Any], out: Output) -> int:
        aliases = _aliases(self.databases, options)
        records = [record for alias in aliases for record in paused(alias)]
        out.data([_as_dict(each) for each in records])
        for each in records:
            until = f" until {in_utc(each.until)}" if each.until else ""
            by = f" by {each.by}" if each.by else ""
            reason = f": {each.reason}" if each.reason else ""
            where = _where(each, records)
            out.line(f"{each} ({each.get_kind_display()}){where}{by}{until}{reason}")
        if not records:
            out.line("Nothing is paused.")
        return ExitCode.DONE


def _aliases(databases: Databases, options: dict[str, Any], model: Any = None) -> list[str]:
    """Those that ``--database`` names, or all in which the model (None: any) is run."""
    named = databases_named(options["database"])
    if named:
        return databases.there(named)
    models = stator_models() if model is None else [model]
    return list(dict.fromkeys(alias for _, alias in databases.places_of(models)))


def _where(record: Pause, records: Iterable[Pause]) -> str:
    """In which database it is, if the records are of several."""
    several = len({each._state.db for each in records}) > 1
    return f" in {record._state.db}" if several else ""


def _call(function: Any, **arguments: Any) -> Any:
    try:
        return function(**arguments)
    except ValidationError as error:
        raise CommandError(f"--key: {' '.join(error.messages)}") from error
    except (ValueError, UnknownState) as error:
        raise CommandError(str(error)) from error


def _as_dict(record: Pause) -> dict[str, Any]:
    names = ("id", "model", "state", "key", "kind", "by", "reason", "since", "until")
    return {name: getattr(record, name) for name in names} | {"database": record._state.db}

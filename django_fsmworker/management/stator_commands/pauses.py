"""``stator pause``, ``resume`` and ``pauses``: what is not run for a time."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from django_fsmworker.exceptions import UnknownState
from django_fsmworker.management.labels import chosen_models
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.subcommand import ExitCode, Subcommand, login
from django_fsmworker.models.indexes import own_column
from django_fsmworker.models.limits import Pause
from django_fsmworker.pauses import pause, paused, resume


class PauseSubcommand(Subcommand):
    """It names what is paused: a model, a state, a key, or (``--all``) everything."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "label", nargs="?", metavar="app.Model", help="the model that declares the state"
        )
        parser.add_argument("--all", action="store_true", help="every model")
        parser.add_argument("--state", help="one state of the model (default: all)")
        parser.add_argument(
            "--key", help="one value of the column by which that state is limited (default: all)"
        )
        parser.add_argument("--by", default=login(), help="who does it (default: this login)")

    def named(self, options: dict[str, Any]) -> dict[str, Any]:
        """The arguments of ``pause()`` and ``resume()``."""
        if bool(options["label"]) == options["all"]:
            raise CommandError("Name a model, or give --all for every one.")
        model = chosen_models([options["label"]], [], None)[0] if options["label"] else None
        named = {"model": model, "state": options["state"], "by": options["by"]}
        named["using"] = options["database"]
        if options["key"] is not None:
            named["key"] = _key(model, options["state"], options["key"])
        return named


class PauseRows(PauseSubcommand):
    name = "pause"
    help = "Run nothing of a model, a state or a key until it is resumed; what runs goes on."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--for", dest="seconds", type=float, metavar="SECONDS",
            help="how long (default: until it is resumed)",
        )  # fmt: skip
        parser.add_argument("--reason", required=True, help="why; it is put on record")

    def run(self, options: dict[str, Any], out: Output) -> int:
        given = {"until": options["seconds"], "reason": options["reason"]}
        records = _call(pause, **self.named(options), **given)
        out.data([_as_dict(each) for each in records])
        for each in records:
            out.line(f"{each} is paused.")
        return ExitCode.DONE


class ResumeRows(PauseSubcommand):
    name = "resume"
    help = "Lift the pauses of a model, a state or a key, and of what is part of it."

    def run(self, options: dict[str, Any], out: Output) -> int:
        lifted = _call(resume, **self.named(options))
        out.data({"lifted": lifted})
        out.line(f"{lifted} {'pause' if lifted == 1 else 'pauses'} lifted.")
        return ExitCode.DONE


class ListPauses(Subcommand):
    name = "pauses"
    help = "List what is paused: by whom, why, and until when."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        pass

    def run(self, options: dict[str, Any], out: Output) -> int:
        records = paused(options["database"])
        out.data([_as_dict(each) for each in records])
        for each in records:
            until = f" until {each.until:%Y-%m-%d %H:%M:%S} UTC" if each.until else ""
            by = f" by {each.by}" if each.by else ""
            reason = f": {each.reason}" if each.reason else ""
            out.line(f"{each} ({each.get_kind_display()}){by}{until}{reason}")
        if not records:
            out.line("Nothing is paused.")
        return ExitCode.DONE


def _call(function: Any, **arguments: Any) -> Any:
    try:
        return function(**arguments)
    except (ValueError, UnknownState) as error:
        raise CommandError(str(error)) from error


def _key(model: Any, state: str | None, text: str) -> Any:
    """The value that ``text`` means in the column by which the state is limited."""
    states = model.state_graph.states if model is not None else {}
    chosen = [states[state]] if state in states else list(states.values())
    column = next((each.limits.key for each in chosen if each.limits.key), None)
    if column is None:
        return text  # pause() says what is wrong
    if text == "NULL":
        return None
    field = own_column(model._meta, column)
    try:
        return (field.target_field if field.remote_field else field).to_python(text)
    except ValidationError as error:
        raise CommandError(f"--key: {' '.join(error.messages)}") from error


def _as_dict(record: Pause) -> dict[str, Any]:
    names = ("id", "model", "state", "key", "kind", "by", "reason", "since", "until")
    return {name: getattr(record, name) for name in names}

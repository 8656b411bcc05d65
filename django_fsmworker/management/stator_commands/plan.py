"""``stator plan``: what this code's graphs mean for the rows that are there."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from django.core.management.base import CommandError

from django_fsmworker.diagnosis.plan import Plan, plan_of
from django_fsmworker.diagnosis.renaming import write_renaming
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    add_labels,
)


class PlanRows(Subcommand):
    """Ends with 3 if rows would be left that nobody runs."""

    name = "plan"
    help = "Compare this code's graphs with the rows that are there; for use before a deploy."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_labels(parser)
        parser.add_argument(
            "--rename", action="append", default=[], metavar="OLD=NEW",
            help="a state that was renamed, where the guess is wrong; may be given several times",
        )  # fmt: skip
        parser.add_argument(
            "--write-migration", action="store_true",
            help="write a data migration that renames states in the rows",
        )  # fmt: skip

    def run(self, options: dict[str, Any], out: Output) -> int:
        places, given = self.databases.places(options), dict(map(_renaming, options["rename"]))
        plans = [plan_of(model, alias) for model, alias in places]
        _refuse_strangers(given, plans)
        out.data([plan.as_dict() for plan in plans])
        for plan in plans:
            _show(plan, out)
        if options["write_migration"]:
            by_model: dict[Any, list[Plan]] = {}
            for (model, _), plan in zip(places, plans, strict=True):
                by_model.setdefault(model, []).append(plan)
            for model, some in by_model.items():
                _write(model, some, given, out)
        stranding = any(plan.strands_rows for plan in plans)
        return ExitCode.FOUND if stranding else ExitCode.DONE


def _show(plan: Plan, out: Output) -> None:
    out.line(f"{plan.model} ({plan.database}){'' if plan.changes else ': nothing to do.'}")
    if plan.mismatch:
        out.line(f"  none of its rows has a state yet: {plan.mismatch}")
    for state, number in plan.unknown.items():
        new = plan.renamed.get(state)
        guess = f"; was it renamed to {new}?" if new else ""
        rows = "1 row is" if number == 1 else f"{number} rows are"
        out.line(f"  {rows} in the state {state}, which the graph does not declare{guess}")
    for state, number in plan.stranded.items():
        few = number == 1
        rows = f"1 row in {state} has" if few else f"{number} rows in {state} have"
        out.line(f"  {rows} nothing due; a runner makes {'it' if few else 'them'} due at its start")
    for state in plan.gone:
        if state not in plan.unknown:
            out.line(f"  the state {state} is gone, and no row is in it")
    for state in plan.new:
        out.line(f"  the state {state} is new")


def _write(model: Any, plans: Sequence[Plan], given: dict[str, str], out: Output) -> None:
    """Write one migration for the rows of ``model`` in all databases."""
    guessed = {old: new for plan in plans for old, new in plan.renamed.items()} | given
    renamed = {old: guessed.get(old, "") for plan in plans for old in plan.unknown}
    for old, new in renamed.items():
        if new not in model.state_graph.states:
            raise CommandError(
                f"It is not known what the state {old} of {model._meta.label} is called now; "
                f"say it with --rename {old}=NEW."
            )
    if renamed:
        out.line(f"Written: {write_renaming(model, renamed)}")


def _refuse_strangers(given: dict[str, str], plans: Sequence[Plan]) -> None:
    """A name that is misspelt would leave a state with the name that is guessed for it."""
    unknown = sorted({state for plan in plans for state in plan.unknown})
    for old in given:
        if old not in unknown:
            raise CommandError(
                f"--rename {old}={given[old]}: no row is in an undeclared state {old}; rows are in "
                f"{', '.join(unknown) or 'none'}."
            )


def _renaming(text: str) -> tuple[str, str]:
    old, _, new = text.partition("=")
    if not (old and new):
        raise CommandError(f"{text!r} is not a renaming; write OLD=NEW.")
    return old, new

"""``stator status``: what the rows of each model do."""

from __future__ import annotations

import argparse
from typing import Any

from django_fsmworker.diagnosis.status import StateStatus, status_of
from django_fsmworker.graph.durations import span
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    add_labels,
    places_of,
)

COLUMNS = ("model", "state", "rows", "due", "oldest due", "running", "failing", "parked")


class Status(Subcommand):
    """A line for each state that has rows."""

    name = "status"
    help = "Show how many rows are in each state, and what they wait for."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_labels(parser)
        parser.add_argument("--empty", action="store_true", help="show states without rows, too")

    def run(self, options: dict[str, Any], out: Output) -> int:
        found = [
            each
            for model, alias in places_of(options)
            for each in status_of(model, alias)
            if options["empty"] or each.rows.number or each.due.number
        ]
        out.data([each.as_dict() for each in found])
        out.table(COLUMNS, map(_row, found))
        return ExitCode.DONE


def _row(each: StateStatus) -> tuple[Any, ...]:
    return (
        each.model,
        each.state if each.declared else f"{each.state} (unknown)",
        each.rows,
        each.due,
        None if each.oldest_due is None else span(each.oldest_due),
        each.running,
        each.failing,
        each.parked,
    )

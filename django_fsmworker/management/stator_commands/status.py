"""``stator status``: what the rows of each model do."""

from __future__ import annotations

import argparse
from typing import Any

from django_fsmworker.diagnosis.overview import StateOverview, overview
from django_fsmworker.graph.durations import span
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    add_labels,
)

COLUMNS = (
    "model", "state", "rows", "due", "oldest due", "running", "failing", "parked", "paused",
    "per min", "p50", "p95", "workers",
)  # fmt: skip


class Status(Subcommand):
    """A line for each state that has rows."""

    name = "status"
    help = "Show how many rows are in each state, what they wait for, and who runs them."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_labels(parser)
        parser.add_argument("--empty", action="store_true", help="show states without rows, too")

    def run(self, options: dict[str, Any], out: Output) -> int:
        found = [
            each
            for each in overview(self.databases.places(options), self.databases.leave_out)
            if options["empty"] or each.rows.number or each.due.number
        ]
        out.data([each.as_dict() for each in found])
        out.table(COLUMNS, map(_row, found))
        return ExitCode.DONE


def _row(each: StateOverview) -> tuple[Any, ...]:
    return (
        each.model,
        each.state if each.declared else f"{each.state} (unknown)",
        each.rows,
        each.due,
        _span(each.oldest_due),
        each.running,
        each.failing,
        each.parked,
        _paused(each),
        None if each.per_minute is None else f"{each.per_minute:.3g}",
        _span(each.p50),
        _span(each.p95),
        each.workers,
    )


def _paused(each: StateOverview) -> str | None:
    words = ["yes"] if each.paused else []
    if each.breaker:
        words.append(f"breaker {each.breaker.replace('_', ' ')}")
    if each.paused_keys:
        words.append(f"{each.paused_keys} {'key' if each.paused_keys == 1 else 'keys'}")
    return ", ".join(words) or None


def _span(seconds: float | None) -> str | None:
    return None if seconds is None else span(seconds)

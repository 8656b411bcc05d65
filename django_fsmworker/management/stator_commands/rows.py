"""``stator retry``, ``park``, ``unpark``, ``move`` and ``cancel``: what is done to rows."""

from __future__ import annotations

import argparse
from abc import abstractmethod
from typing import Any

from django_fsmworker.exceptions import NotAllowed
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.selection import add_selection, selected_rows
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    add_label,
    login,
    model_of,
)
from django_fsmworker.models import StatorQuerySet
from django_fsmworker.models.operating import (
    Cancel,
    Operation,
    Park,
    Retry,
    Unpark,
    batches,
    number_of,
    operate,
)


class RowsSubcommand(Subcommand):
    """Something that is done to the rows which the command line names."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_label(parser)
        add_selection(parser)
        parser.add_argument("--by", default=login(), help="who does it (default: this login)")
        self.add_reason(parser)

    def add_reason(self, parser: argparse.ArgumentParser) -> None:
        """Declare ``--reason``."""
        parser.add_argument("--reason", default="", help="why; for the log")


class OperationSubcommand(RowsSubcommand):
    """One of the verbs for operators."""

    @abstractmethod
    def operation(self, model: Any, options: dict[str, Any]) -> Operation:
        """What to do to each row."""

    def run(self, options: dict[str, Any], out: Output) -> int:
        model = model_of(options)
        rows, operation = selected_rows(model, options), self.operation(model, options)
        if options["dry_run"]:
            _say(out, number_of(operation, rows), f"would be {operation.done}")
        else:
            _say(out, operate(operation, rows), f"{operation.done}")
        return ExitCode.DONE


def _say(out: Output, number: int, done: str) -> None:
    out.data({"rows": number})
    out.line(f"{number} {'row' if number == 1 else 'rows'} {done}.")


class RetryRows(OperationSubcommand):
    name = "retry"
    help = "Make rows due now, with all their attempts."

    def operation(self, model: Any, options: dict[str, Any]) -> Operation:
        return Retry(model, options["by"], options["reason"])


class ParkRows(OperationSubcommand):
    name = "park"
    help = "Keep rows from being run until they are unparked; end the checks that run on them."

    def add_reason(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--reason", required=True, help="why; it is put on record")

    def operation(self, model: Any, options: dict[str, Any]) -> Operation:
        return Park(model, options["by"], options["reason"])


class UnparkRows(OperationSubcommand):
    name = "unpark"
    help = "Make parked rows due again."

    def operation(self, model: Any, options: dict[str, Any]) -> Operation:
        return Unpark(model, options["by"], options["reason"])


class CancelRows(OperationSubcommand):
    name = "cancel"
    help = "End the checks that run on rows, without a failure."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--retry-in", type=float, metavar="SECONDS",
            help="when the rows are due again (default: after the retry_after of their state)",
        )  # fmt: skip

    def operation(self, model: Any, options: dict[str, Any]) -> Operation:
        return Cancel(model, options["by"], options["reason"], options["retry_in"])


class MoveRows(RowsSubcommand):
    """Each row by itself, as ``state_move()`` does; forced, a batch at once."""

    name = "move"
    help = "Move rows to a state by a declared transition; with --force from any state."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--to", required=True, metavar="STATE", help="the state to move to")
        parser.add_argument(
            "--force", action="store_true",
            help="move rows whatever their state is, and end the checks that run on them",
        )  # fmt: skip

    def run(self, options: dict[str, Any], out: Output) -> int:
        model = model_of(options)
        rows, target = selected_rows(model, options), model.state_graph.get(options["to"])
        if options["dry_run"]:
            _say(out, rows.count(), f"would be asked to move to {target}")
            return ExitCode.DONE
        refused: dict[str, str] = {}
        if options["force"]:
            moved = sum(
                model.state_transition_queryset(
                    some, target, by=options["by"], reason=options["reason"]
                )
                for some in batches(rows)
            )
        else:
            moved = _move(rows, target, options, refused)
        out.data({"rows": moved, "refused": refused})
        out.line(f"{moved} {'row' if moved == 1 else 'rows'} moved to {target}.")
        for why in refused.values():
            out.line(why)
        return ExitCode.FOUND if refused else ExitCode.DONE


def _move(
    rows: StatorQuerySet[Any], target: Any, options: dict[str, Any], refused: dict[str, str]
) -> int:
    """Move one row after the other; returns how many. Notes why the others were not, by key."""
    moved = 0
    for row in (row for some in batches(rows) for row in some):
        try:
            row.state_move(target, by=options["by"], reason=options["reason"])
            moved += 1
        except NotAllowed as error:
            refused[str(row.pk)] = str(error)
    return moved

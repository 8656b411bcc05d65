"""``stator retry``, ``park``, ``unpark``, ``move`` and ``cancel``: what is done to rows."""

from __future__ import annotations

import argparse
from abc import abstractmethod
from typing import Any

from django_fsmworker.exceptions import NotAllowed
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.selection import (
    add_selection,
    missing_keys,
    selected_rows,
)
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    add_by,
    add_label,
    add_required_reason,
    model_of,
    seconds,
)
from django_fsmworker.models import StatorQuerySet
from django_fsmworker.models.keys import row_key
from django_fsmworker.models.operating import (
    Cancel,
    Operation,
    Park,
    Retry,
    Unpark,
    batches,
    left_as_they_are,
    number_of,
    operate,
)


class RowsSubcommand(Subcommand):
    """Something that is done to the rows which the command line names."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_label(parser)
        add_selection(parser)
        add_by(parser)
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
        missing = missing_keys(model, options)
        # Whoever names rows one by one wants to hear of each; it is looked up before it is done.
        left = left_as_they_are(operation, rows) if options["keys"] else {}
        refused = {row_key(key): why for key, why in left.items()}
        if options["dry_run"]:
            number, done = number_of(operation, rows), f"would be {operation.done}"
        else:
            number, done = operate(operation, rows), operation.done
        return _say(out, model, number, done, refused, missing)


def _say(
    out: Output, model: Any, number: int, done: str, refused: dict[str, str], missing: list[str]
) -> ExitCode:
    """Say to how many rows it was done, and of each that was named and left out why."""
    out.data({"rows": number, "refused": refused, "missing": missing})
    out.line(f"{number} {'row' if number == 1 else 'rows'} {done}.")
    for why in refused.values():
        out.line(why)
    for key in missing:
        out.line(f"There is no {model._meta.label} with the key {key}.")
    return ExitCode.FOUND if refused or missing else ExitCode.DONE


class RetryRows(OperationSubcommand):
    name = "retry"
    help = "Make rows due now, with all their attempts."

    def operation(self, model: Any, options: dict[str, Any]) -> Operation:
        return Retry(model, options["by"], options["reason"])


class ParkRows(OperationSubcommand):
    name = "park"
    help = "Keep rows from being run until they are unparked; end the checks that run on them."

    def add_reason(self, parser: argparse.ArgumentParser) -> None:
        add_required_reason(parser)

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
            "--retry-in", type=seconds, metavar="SECONDS",
            help="when the rows are due again (default: after the retry_after of their state)",
        )  # fmt: skip

    def operation(self, model: Any, options: dict[str, Any]) -> Operation:
        return Cancel(model, options["by"], options["reason"], options["retry_in"])


class MoveRows(RowsSubcommand):
    """Moves each row by itself, as ``state_move()`` does; forced, a batch at once."""

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
        missing = missing_keys(model, options)
        refused: dict[str, str] = {}
        if options["dry_run"]:
            asked = f"would be asked to move to {target}"
            return _say(out, model, rows.count(), asked, refused, missing)
        if options["force"]:
            moved = sum(
                model.state_transition_queryset(
                    some, target, by=options["by"], reason=options["reason"]
                )
                for some in batches(rows)
            )
        else:
            moved = _move(rows, target, options, refused)
        return _say(out, model, moved, f"moved to {target}", refused, missing)


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
            refused[row_key(row.pk)] = str(error)
    return moved

"""``stator explain``: why a row does not move."""

from __future__ import annotations

import argparse
from typing import Any

from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.selection import row_with_key
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    add_label,
    model_of,
)


class Explain(Subcommand):
    """The reasons of one row, as ``row.state_explain()`` has them."""

    name = "explain"
    help = "Say why a row does not move, and what would unblock it."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_label(parser)
        parser.add_argument("key", metavar="PK", help="the row's primary key")

    def run(self, options: dict[str, Any], out: Output) -> int:
        row = row_with_key(model_of(options), options["key"], options)
        explanation = row.state_explain()
        out.data(explanation.as_dict())
        for line in str(explanation).splitlines():
            out.line(line)
        return ExitCode.DONE

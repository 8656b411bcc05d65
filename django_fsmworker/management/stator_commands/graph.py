"""``stator graph``: a model's graph as a diagram."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management import CommandError

from django_fsmworker.diagram.formats import FORMATS, draw
from django_fsmworker.diagram.ranks import CannotDraw
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    add_label,
    model_of,
)


class Graph(Subcommand):
    """No database is asked."""

    name = "graph"
    help = "Draw a model's state graph."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_label(parser)
        parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")

    def run(self, options: dict[str, Any], out: Output) -> int:
        form = "json" if out.as_json else options["format"]
        try:
            Output(out.stream).text(draw(model_of(options).state_graph, form))
        except CannotDraw as missing:
            raise CommandError(str(missing)) from missing
        return ExitCode.DONE

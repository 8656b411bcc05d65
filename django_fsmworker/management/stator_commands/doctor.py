"""``stator doctor``: what is wrong with the databases, and what to do about it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from django_fsmworker.diagnosis.doctor import examine
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    add_labels,
)


class Doctor(Subcommand):
    """Ends with 3 if it finds more than advice."""

    name = "doctor"
    help = "Look for what is wrong with the databases that rows live in."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_labels(parser)

    def run(self, options: dict[str, Any], out: Output) -> int:
        models: dict[str, list[Any]] = {}
        for model, alias in self.databases.places(options):
            models.setdefault(alias, []).append(model)
        found = [
            (alias, finding) for alias, here in models.items() for finding in examine(here, alias)
        ]
        out.data([{"database": alias, **asdict(finding)} for alias, finding in found])
        for alias, finding in found:
            where = f" in {alias}" if len(models) > 1 else ""
            out.line(f"{finding.severity}{where}: {finding.sentence}")
            if finding.remedy:
                out.line(f"  {finding.remedy}")
        if not found:
            out.line("Nothing found.")
        wrong = any(finding.severity == "warning" for _, finding in found)
        return ExitCode.FOUND if wrong else ExitCode.DONE

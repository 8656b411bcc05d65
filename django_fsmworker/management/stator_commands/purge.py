"""``stator purge``: old records are deleted."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    places_of,
)
from django_fsmworker.store.purging import kinds, purge


class Purge(Subcommand):
    """What runners do by themselves once an hour, at once."""

    name = "purge"
    help = "Delete old records: summaries, resolved failures, the log of transitions."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--older-than", type=float, metavar="DAYS",
            help="how old (default: as long as runners keep each kind)",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def run(self, options: dict[str, Any], out: Output) -> int:
        days, dry = options["older_than"], options["dry_run"]
        older = None if days is None else timedelta(days=days)
        aliases = dict.fromkeys(alias for _, alias in places_of({**options, "labels": []}))
        found = [
            {"database": alias, "records": kind.name, "number": purge(alias, kind, older, dry=dry)}
            for alias in aliases
            for kind in kinds()
        ]
        out.data(found)
        out.table(("database", "records", "old" if dry else "deleted"), map(_row, found))
        return ExitCode.DONE


def _row(each: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(each.values())

"""``stator purge``: old records are deleted."""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    age,
)
from django_fsmworker.store.purging import kinds, purge


class Purge(Subcommand):
    """What runners do by themselves once an hour, at once."""

    name = "purge"
    help = "Delete old records: summaries, resolved failures, the log of transitions."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--older-than", type=_days, metavar="AGE",
            help="how old: 7d, 12h, or a number of days (default: as long as runners keep each)",
        )  # fmt: skip
        parser.add_argument("--dry-run", action="store_true", help="only count")

    def run(self, options: dict[str, Any], out: Output) -> int:
        older, dry = options["older_than"], options["dry_run"]
        aliases = dict.fromkeys(
            alias for _, alias in self.databases.places({**options, "labels": []})
        )
        found = [
            {"database": alias, "records": kind.name, "number": purge(alias, kind, older, dry=dry)}
            for alias in aliases
            for kind in kinds()
        ]
        out.data(found)
        out.table(("database", "records", "old" if dry else "deleted"), map(_row, found))
        return ExitCode.DONE


def _days(text: str) -> timedelta:
    return age(f"{text}d" if text.isdecimal() else text)


def _row(each: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(each.values())

"""``manage.py stator``: what an operator asks, and what an operator does."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from django_fsmworker.exceptions import FSMWorkerError
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.registry import SUBCOMMANDS
from django_fsmworker.management.stator_commands.subcommand import Subcommand


class Command(BaseCommand):
    """Hands over to a subcommand; ``call_command()`` returns nothing and raises its exit code."""

    help = "Shows what rows with a life do, says why they do not, and does something about it."
    # It has to answer where something is wrong.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
        for kind in SUBCOMMANDS:
            subcommand = kind()
            own = parsers.add_parser(kind.name, help=kind.help, description=kind.help)
            own.add_argument("--json", action="store_true", help="print JSON")
            own.add_argument(
                "--database", metavar="ALIAS", help="the database (default: as routers say)"
            )
            subcommand.add_arguments(own)
            own.set_defaults(run_subcommand=subcommand)

    def handle(self, *, run_subcommand: Subcommand, **options: Any) -> None:
        out = Output(self.stdout, as_json=options["json"])
        try:
            code = run_subcommand.run(options, out)
        except FSMWorkerError as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            words = str(error).partition("\n")[0].strip()
            raise CommandError(
                f"The database is away, or not as the code expects it ({words}); start it, or run "
                f"'manage.py migrate'."
            ) from error
        if code:
            sys.exit(code)

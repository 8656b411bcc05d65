"""``manage.py stator``: what an operator asks, and what an operator does."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, DataError

from django_fsmworker.exceptions import FSMWorkerError
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.databases import first_line
from django_fsmworker.management.stator_commands.registry import SUBCOMMANDS
from django_fsmworker.management.stator_commands.subcommand import ExitCode, Subcommand
from django_fsmworker.store.errors import is_contention


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
        _refuse_undecodable(options)
        out = Output(self.stdout, as_json=options["json"])
        try:
            code = run_subcommand.run(options, out)
        except FSMWorkerError as error:
            raise CommandError(str(error)) from error
        except DataError as error:
            raise CommandError(
                f"The database cannot make sense of that: {first_line(error)}."
            ) from error
        except DatabaseError as error:
            if is_contention(error):
                raise CommandError(
                    f"Somebody else's transaction is in the way ({first_line(error)}); end it, or "
                    f"give the command again when it is over."
                ) from error
            raise CommandError(
                f"The database is away, or not as the code expects it ({first_line(error)}); start "
                f"it, or run 'manage.py migrate'."
            ) from error
        except KeyboardInterrupt:
            self.stderr.write(
                "Interrupted: a part of it may be done; it is safe to give the command again."
            )
            code = ExitCode.INTERRUPTED
        finally:
            out.flush()
            left_out = run_subcommand.databases.left_out
            for sentence in left_out:
                self.stderr.write(sentence)
        if code := ExitCode.ERROR if left_out else code:
            sys.exit(code)


def _refuse_undecodable(options: Mapping[str, Any]) -> None:
    """Python keeps bytes of the command line that are no text; no database takes them."""
    for given in options.values():
        for each in given if isinstance(given, list) else [given]:
            try:
                str(each).encode()
            except UnicodeEncodeError:
                raise CommandError(f"{each!r} is no text in this terminal's encoding.") from None

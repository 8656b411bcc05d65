"""``manage.py runstator``: parses the command line, and says how the runner ended."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError
from django.utils import autoreload

from django_fsmworker import conf
from django_fsmworker.early_signals import end_on_sigterm
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.health.pages import pages_of_all, pages_of_supervisor, samples_of_all
from django_fsmworker.health.server import HealthServer, HealthThread
from django_fsmworker.management.labels import (
    chosen_by_database,
    chosen_models,
    databases_named,
)
from django_fsmworker.metrics.reports import Reporter
from django_fsmworker.runner.measurements import can_be_shown
from django_fsmworker.runner.processes.exit_codes import ExitCode
from django_fsmworker.runner.processes.group import RunnerGroup
from django_fsmworker.runner.processes.process import run_process
from django_fsmworker.runner.processes.supervised import Supervised
from django_fsmworker.runner.processes.supervisor import Supervisor

Models = Mapping[str | None, Sequence[Any]]

LEVELS = {0: logging.ERROR, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}


def argument(reads: Callable[[Any], Any], expected: str) -> Callable[[str], Any]:
    """An argparse type that says what it expected."""

    def parse(text: str) -> Any:
        try:
            return reads(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}") from None

    return parse


def without(instead: str) -> Callable[[str], Any]:
    """An argparse type for an option of comparable commands that this one does not have."""

    def refuse(text: str) -> Any:
        raise argparse.ArgumentTypeError(f"runstator has no such option; {instead}")

    return refuse


port = argument(conf.port, "the number of a port")
whole_number = argument(conf.positive_integer, "a whole number above 0")
duration = argument(conf.positive_seconds, "a number of seconds above 0")
duration_or_zero = argument(conf.seconds, "a number of seconds, 0 or more")


class Command(BaseCommand):
    """Runs a runner until it is told to stop, by default of every model with a state graph."""

    help = "Moves rows through their state graphs: claims what is due, runs checks, writes states."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "labels", nargs="*", metavar="app.Model", help="models to run (default: all)"
        )
        parser.add_argument(
            "-x", "--exclude", action="append", default=[], metavar="app.Model",
            help="a model to leave out; may be given several times",
        )  # fmt: skip
        parser.add_argument("--processes", type=whole_number, help="runners under this command")
        parser.add_argument("-c", "--concurrency", type=whole_number, help="threads for checks")
        parser.add_argument(
            "--async-concurrency", type=whole_number, help="how many async checks run at once"
        )
        parser.add_argument(
            "--concurrency-per-model", type=whole_number, help="most checks of one model at once"
        )
        parser.add_argument(
            "-r", "--run-for", type=duration_or_zero, metavar="SECONDS",
            help="stop after so many seconds; 0: one pass over what is due (default: run forever)",
        )  # fmt: skip
        parser.add_argument(
            "-s", "--schedule-interval", help=argparse.SUPPRESS, type=without(
                "nothing is scheduled here, and expired rows are looked for every "
                "FSMWORKER_DELETE_INTERVAL seconds."
            ),
        )  # fmt: skip
        parser.add_argument("--once", action="store_true", help="the same as --run-for 0")
        parser.add_argument(
            "--database", metavar="ALIAS[,ALIAS…]",
            help="the databases whose rows are run (default: as routers say)",
        )  # fmt: skip
        parser.add_argument(
            "--deadline", type=duration, metavar="SECONDS", help="how long one check may take"
        )
        parser.add_argument("--lease", type=duration, metavar="SECONDS", help="length of a claim")
        parser.add_argument(
            "--drain-timeout", type=duration_or_zero, metavar="SECONDS",
            help="how long running checks may go on after SIGTERM",
        )  # fmt: skip
        parser.add_argument(
            "--poll-interval", type=duration, metavar="SECONDS",
            help="how long an idle runner sleeps at the most",
        )  # fmt: skip
        parser.add_argument(
            "--connect-timeout", type=duration_or_zero, metavar="SECONDS",
            help="how long to wait for the database at start",
        )  # fmt: skip
        parser.add_argument(
            "--liveness-file", metavar="PATH", help="a file to touch while there is progress"
        )
        parser.add_argument("--worker-id", metavar="ID", help="id in the registry of workers")
        parser.add_argument(
            "--worker-name", metavar="NAME", help="name there (default: from the models)"
        )
        parser.add_argument(
            "--health-port", type=port, metavar="PORT", help="port of /livez, /readyz, /metrics"
        )
        parser.add_argument(
            "--health-host", metavar="ADDRESS", help="where that port is (default: 127.0.0.1)"
        )
        parser.add_argument(
            "--max-tasks", type=whole_number, metavar="N",
            help="end after so many attempts (with --processes: be replaced)",
        )  # fmt: skip
        parser.add_argument(
            "--max-failures", type=whole_number, metavar="N", help="after so many failed ones"
        )
        parser.add_argument(
            "--max-memory", type=whole_number, metavar="MIB", help="beyond so much memory"
        )
        parser.add_argument("--check-logger", metavar="NAME", help="logger of what checks come to")
        parser.add_argument(
            "--reload", action=argparse.BooleanOptionalAction, default=False,
            help="start again when code changes",
        )  # fmt: skip

    def run_from_argv(self, argv: list[str]) -> None:
        """Called from the command line; the checks that follow may take seconds."""
        end_on_sigterm()
        super().run_from_argv(argv)

    @cached_property
    def supervised(self) -> Supervised | None:
        """The link to a supervisor that started this process, if one did."""
        return Supervised.from_environment()

    def check(self, *args: Any, **kwargs: Any) -> None:
        """Run Django's checks; a database that is away is waited for later."""
        if self.supervised:
            return  # the supervisor has checked, and has said what there is to say
        with suppress(OperationalError, InterfaceError):
            super().check(*args, **kwargs)

    def handle(
        self,
        *,
        labels: list[str],
        exclude: list[str],
        run_for: float | None,
        once: bool,
        database: str | None,
        reload: bool,
        verbosity: int,
        **options: Any,
    ) -> None:
        if once and run_for:
            raise CommandError("--once is --run-for 0; give one of them.")
        if reload and (once or run_for is not None):
            raise CommandError("--reload runs forever; leave out --once and --run-for.")
        models = self._models(labels, exclude, database)
        self._configure_logging(verbosity)
        known = conf.RunnerSettings.names()
        own = {name: options[name] for name in options if name in known and name != "processes"}
        settings = self._settings_of_a_supervisor(own, options.get("processes"))
        run_for = 0 if once else run_for
        if settings and reload:
            raise CommandError("--reload runs a single process; add --processes 1.")
        if settings:
            self._supervise(settings, run_for)
        if reload:
            # The reloader owns the main thread and ends the other one with the process.
            autoreload.run_with_reloader(self._run, models, None, own, False)
        else:
            self._run(models, run_for, own, True)

    @staticmethod
    def _models(labels: list[str], exclude: list[str], database: str | None) -> Models:
        """By database, the models to run; under None where it is left to routers."""
        aliases = databases_named(database)
        if not aliases:
            return {None: chosen_models(labels, exclude, None, to_run=True)}
        return dict(chosen_by_database(labels, exclude, aliases, to_run=True).items())

    def _settings_of_a_supervisor(
        self, options: Mapping[str, Any], processes: int | None
    ) -> conf.RunnerSettings | None:
        """The settings with which to supervise other processes; None to run rows in this one."""
        if self.supervised:
            return None
        try:
            settings = conf.RunnerSettings.load(**options, processes=processes)
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        if getattr(self, "_called_from_command_line", False):
            return settings if settings.processes > 1 else None
        if processes is not None and processes > 1:
            raise CommandError(
                "--processes starts the command line of this process again; "
                "called from code, runstator is a single process."
            )
        return None

    def _supervise(self, settings: conf.RunnerSettings, run_for: float | None) -> None:
        if settings.health_port is None:
            sys.exit(Supervisor(settings, run_for).run())
        with TemporaryDirectory(prefix="fsmworker-") as folder:
            supervisor = Supervisor(settings, run_for, reports=folder)
            pages = pages_of_supervisor(supervisor, Path(folder))
            try:
                supervisor.health = HealthServer(settings.health_host, settings.health_port, pages)
            except ConfigurationError as error:
                raise CommandError(str(error)) from error
            sys.exit(supervisor.run())

    @contextmanager
    def _serving_health(self, runners: RunnerGroup) -> Iterator[None]:
        """Serve the pages on health of this process, unless its supervisor does."""
        settings = runners.settings
        if settings.health_port is None:
            yield
            return
        if self.supervised:
            runners.health_address = f"http://{settings.health_host}:{settings.health_port}"
            with self._reporting(runners, self.supervised.reports):
                yield
            return
        pages = pages_of_all(runners.runners)
        server = HealthServer(settings.health_host, settings.health_port, pages)
        runners.health_address = server.address
        thread = HealthThread(server)
        thread.start()
        try:
            yield
        finally:
            thread.stop()

    @contextmanager
    def _reporting(self, runners: RunnerGroup, folder: str) -> Iterator[None]:
        """Report the metrics of this process to its supervisor, if that serves them."""
        if not folder or not can_be_shown():
            yield
            return
        reporter = Reporter(Path(folder), lambda: samples_of_all(runners.runners))
        reporter.start()
        try:
            yield
        finally:
            reporter.stop()

    def _run(
        self,
        models: Models,
        run_for: float | None,
        options: dict[str, Any],
        main_thread: bool,
    ) -> None:
        try:
            runners = run_process(
                models,
                run_for,
                options,
                self.supervised,
                main_thread=main_thread,
                around=self._serving_health,
            )
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        if runners.too_many_abandoned:
            self.stderr.write(
                f"More than {runners.settings.max_abandoned} checks did not end and hold their "
                f"threads; the runner ends so that its supervisor starts a fresh one."
            )
            sys.exit(ExitCode.TOO_MANY_ABANDONED)
        for (alias, _), runner in zip(models.items(), runners.runners, strict=True):
            if len(models) > 1:
                self.stdout.write(f"stopped ({alias}): {runner.counters}")
            else:
                self.stdout.write(f"stopped: {runner.counters}")
        if runners.limit_reached and not self.supervised:
            sys.exit(ExitCode.LIMIT_REACHED)

    def _configure_logging(self, verbosity: int) -> None:
        """Show this package's log here, unless the project has decided where it goes."""
        logger = logging.getLogger("django_fsmworker")
        if logger.hasHandlers():
            return
        handler = logging.StreamHandler(self.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(LEVELS[verbosity])

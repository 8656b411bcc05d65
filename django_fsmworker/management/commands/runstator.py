"""``manage.py runstator``: parse the command line, run a runner, tell how it ended."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError, connections
from django.utils import autoreload

from django_fsmworker import conf
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.runner import StatorRunner
from django_fsmworker.runner.collecting import collecting_seldom
from django_fsmworker.runner.processes.shutdown import stopping_on_signals
from django_fsmworker.runner.processes.supervised import Supervised
from django_fsmworker.runner.processes.supervisor import Supervisor
from django_fsmworker.runner.switching import switching_soon

TOO_MANY_ABANDONED, STALLED = 3, 4
# How much longer than its drain a process may take that has lost its supervisor.
LONGER = 60.0
LEVELS = {0: logging.ERROR, 1: logging.INFO, 2: logging.DEBUG, 3: logging.DEBUG}


def argument(reads: Callable[[Any], Any], expected: str) -> Callable[[str], Any]:
    """An argparse type that says what it expected."""

    def parse(text: str) -> Any:
        try:
            return reads(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}") from None

    return parse


whole_number = argument(conf.positive_integer, "a whole number above 0")
duration = argument(conf.positive_seconds, "a number of seconds above 0")
duration_or_zero = argument(conf.seconds, "a number of seconds, 0 or more")


class Command(BaseCommand):
    """Runs until it is told to stop; without arguments for every model with a state graph."""

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
        parser.add_argument("--once", action="store_true", help="the same as --run-for 0")
        parser.add_argument("--database", help="the database alias (default: as routers say)")
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
        parser.add_argument(
            "--reload", action=argparse.BooleanOptionalAction, default=False,
            help="start again when code changes",
        )  # fmt: skip

    @cached_property
    def supervised(self) -> Supervised | None:
        """The link to a supervisor that started this process, if one did."""
        return Supervised.from_environment()

    def check(self, *args: Any, **kwargs: Any) -> None:
        """Some of Django's checks ask the database; one that is away is waited for later."""
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
        if database is not None and database not in connections:
            raise CommandError(
                f"There is no database {database!r}; DATABASES has {', '.join(connections)}."
            )
        models = chosen_models(labels, exclude, database)
        self._configure_logging(verbosity)
        own = {name: options[name] for name in conf.RunnerSettings.names() if name in options}
        settings = self._settings_of_a_supervisor(own)
        run_for = 0 if once else run_for
        if settings and reload:
            raise CommandError("--reload runs a single process; add --processes 1.")
        if settings:
            sys.exit(Supervisor(settings, run_for).run())
        if reload:
            autoreload.run_with_reloader(self._run, models, database, None, own, False)
        else:
            self._run(models, database, run_for, own, True)

    def _settings_of_a_supervisor(self, options: dict[str, Any]) -> conf.RunnerSettings | None:
        """None if this process is to run rows itself. Takes its own option out of ``options``."""
        processes = options.pop("processes", None)
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

    def _run(
        self,
        models: list[Any],
        database: str | None,
        run_for: float | None,
        options: dict[str, Any],
        main_thread: bool,
    ) -> None:
        try:
            if self.supervised:
                run_for = self.supervised.seconds_left or run_for
            runner = self._runner(models, database, options)
            if main_thread:
                patient = self.supervised is not None
                with (
                    stopping_on_signals(runner.stop, patient=patient),
                    switching_soon(),
                    collecting_seldom(),
                ):
                    runner.run(run_for)
            else:  # the reloader owns the main thread and ends this one with the process
                runner.run(run_for)
        except ConfigurationError as error:
            raise CommandError(str(error)) from error
        if runner.too_many_abandoned:
            self.stderr.write(
                f"More than {runner.settings.max_abandoned} checks did not end and hold their "
                f"threads; the runner ends so that its supervisor starts a fresh one."
            )
            sys.exit(TOO_MANY_ABANDONED)
        self.stdout.write(f"stopped: {runner.counters}")

    def _runner(
        self, models: list[Any], database: str | None, options: dict[str, Any]
    ) -> StatorRunner:
        if self.supervised:
            options["on_progress"] = self.supervised.beat
        runner = StatorRunner(models, database=database, on_stall=_exit_stalled, **options)
        if self.supervised:
            self.supervised.watch(runner.stop, 2 * runner.settings.drain_timeout + LONGER)
        return runner

    def _configure_logging(self, verbosity: int) -> None:
        """Show this package's log here, unless the project has decided where it goes."""
        logger = logging.getLogger("django_fsmworker")
        if logger.hasHandlers():
            return
        handler = logging.StreamHandler(self.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(LEVELS[verbosity])


def chosen_models(labels: list[str], exclude: list[str], database: str | None) -> list[Any]:
    """The models named by ``labels`` (all, if none are), without those in ``exclude``.

    With ``database`` there are only those that the routers keep in it.
    """
    known = {model._meta.label_lower: model for model in stator_models(database)}
    wanted = [_look_up(label, known) for label in labels] or list(known.values())
    unwanted = [_look_up(label, known) for label in exclude]
    left = [model for model in dict.fromkeys(wanted) if model not in unwanted]
    if not left:
        raise CommandError(
            "There is nothing to run: "
            + ("every model is excluded." if known else "no installed model has a StateField.")
        )
    return left


def _look_up(label: str, known: dict[str, Any]) -> Any:
    if label.lower() in known:
        return known[label.lower()]
    for model in known.values():
        for each in apps.get_models():
            if each._meta.label_lower == label.lower() and issubclass(each, model):
                raise CommandError(
                    f"{label!r} has its state in the table of {model._meta.label}; name that."
                )
    names = ", ".join(sorted(model._meta.label for model in known.values())) or "none"
    raise CommandError(f"{label!r} is not a model with a state graph; there are: {names}.")


def _exit_stalled() -> None:
    os._exit(STALLED)

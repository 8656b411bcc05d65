"""A runner as a process: signals, the interpreter's settings, the link to a supervisor."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.runner.interpreter_tuning import collecting_seldom, switching_soon
from django_fsmworker.runner.main_loop import Liveness
from django_fsmworker.runner.processes.exit_codes import ExitCode
from django_fsmworker.runner.processes.group import RunnerGroup
from django_fsmworker.runner.processes.signals import stopping_on_signals
from django_fsmworker.runner.processes.supervised import Supervised
from django_fsmworker.runner.processes.systemd import ServiceManager

# How many seconds longer than its drain a process may take that has lost its supervisor.
LONGER = 60.0


def run_process(
    models: Mapping[str | None, Sequence[Any]],
    run_for: float | None,
    options: Mapping[str, Any],
    supervised: Supervised | None,
    *,
    main_thread: bool = True,
    around: Callable[[RunnerGroup], AbstractContextManager[None]] = lambda runners: nullcontext(),
) -> RunnerGroup:
    """Run runners of these ``models``, by database, until they end.

    A main loop that stalls ends the process. Without ``main_thread`` signals and the interpreter's
    settings are left alone. They run inside the context that ``around`` returns. Raises
    ``ConfigurationError``.
    """
    manager = ServiceManager()
    if supervised:
        run_for = supervised.seconds_left or run_for
        options = {
            **options,
            "on_progress": supervised.beat,
            "on_limit": supervised.ask_to_be_replaced,
            "worker_id": _own_id(options, supervised.number),
        }
    elif manager.listens:
        options = {**options, "on_progress": _telling(manager, options.get("liveness_file"))}
    runners = RunnerGroup(models, on_stall=_exit_stalled, **options)
    if supervised:
        supervised.watch(runners.stop, 2 * runners.settings.drain_timeout + LONGER)

    def stop() -> None:
        manager.stopping()
        runners.stop()

    if main_thread:
        patient = supervised is not None
        with (
            stopping_on_signals(stop, patient=patient),
            around(runners),
            switching_soon(),
            collecting_seldom(),
        ):
            runners.run(run_for)
    else:
        with around(runners):
            runners.run(run_for)
    if supervised and runners.ordered_to_stop:
        supervised.stop_for_good()
    return runners


def _own_id(options: Mapping[str, Any], number: int) -> str | None:
    """The id that is given to all processes of a command, with this one's number."""
    given = RunnerSettings.load(worker_id=options.get("worker_id")).worker_id
    return None if given is None else f"{given}.{number}"


def _telling(manager: ServiceManager, liveness_file: str | None) -> Callable[[], None]:
    """What tells of progress: the service manager, and the liveness file as well."""
    settings = RunnerSettings.load(liveness_file=liveness_file)
    liveness = Liveness(settings.liveness_file)

    def tell() -> None:
        manager.alive()
        liveness.touch_file()

    return tell


def _exit_stalled() -> None:
    os._exit(ExitCode.STALLED)

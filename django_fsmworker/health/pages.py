"""The pages on health: what makes a runner, or a supervisor, not alive or not ready."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from pathlib import Path

from django_fsmworker.health.server import Answer, Page
from django_fsmworker.metrics.exposition import metrics_page
from django_fsmworker.metrics.families import Samples, added_up, samples_of
from django_fsmworker.metrics.reports import reports
from django_fsmworker.runner.processes.supervisor import Supervisor
from django_fsmworker.runner.stator_runner import StatorRunner
from django_fsmworker.runner.status import RunnerStatus

LIVE, READY, METRICS = "/livez", "/readyz", "/metrics"


def pages_of_all(runners: Sequence[StatorRunner]) -> dict[str, Page]:
    """The pages of a process, by address; each of its runners has to be alive, and ready."""
    longest = runners[0].settings.watchdog_interval
    return {
        LIVE: _page(lambda: [s for each in runners for s in not_alive(each.status(), longest)]),
        READY: _page(lambda: [s for each in runners for s in not_ready(each.status(), longest)]),
        METRICS: metrics_page(lambda: {0: samples_of_all(runners)}),
    }


def pages_of_supervisor(supervisor: Supervisor, folder: Path) -> dict[str, Page]:
    """The pages of a supervisor, which speaks for all its processes; they report in ``folder``."""
    return {
        LIVE: _page(supervisor.not_alive),
        READY: _page(supervisor.not_ready),
        METRICS: metrics_page(lambda: reports(folder, supervisor.pids())),
    }


def samples(runner: StatorRunner) -> Samples:
    """The metrics of a runner at this moment."""
    longest = runner.settings.watchdog_interval
    return samples_of(runner, lambda: not not_ready(runner.status(), longest))


def samples_of_all(runners: Sequence[StatorRunner]) -> Samples:
    """The metrics of all runners of a process at this moment."""
    return added_up([samples(each) for each in runners])


def not_alive(status: RunnerStatus, longest: float) -> list[str]:
    """What says that a new process would do better: sentences; none for a runner that is alive.

    Alive is about progress: a runner is not if its main loop has not come round for ``longest``
    seconds, or if rows are due, a slot is free and nothing was claimed for a minute. One that is
    busy, waits for its database, is suspended or drains is alive.
    """
    if status.draining or status.seconds_since_progress is None:
        return []
    if status.seconds_since_progress == float("inf"):
        return ["Rows are due and a slot is free, but no claim could be sent for a minute."]
    if status.seconds_since_progress > longest:
        return [f"The main loop has not come round for {status.seconds_since_progress:.0f} s."]
    return []


def not_ready(status: RunnerStatus, longest: float) -> list[str]:
    """What says that no rows are taken up at the moment: sentences; none for one that is ready."""
    found = not_alive(status, longest)
    if status.seconds_since_progress is None and not status.stopping:
        found.append("It has not started yet.")
    if status.stopping or status.draining:
        found.append("It is stopping.")
    if status.suspended:
        found.append("It is suspended.")
    found += [f"The database {alias!r} is away." for alias in status.databases_away]
    found += [f"It cannot give a sign of life in {alias!r}." for alias in status.unknown_to]
    found += [f"The table of {label} is not as expected." for label in status.models_resting]
    return found


def _page(faults: Callable[[], Iterable[str]]) -> Page:
    def page() -> Answer:
        sentences = list(faults())
        if sentences:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(sentences) + "\n")
        return Answer(HTTPStatus.OK, "ok\n")

    return page

"""What a worker costs that has nothing to do: statements, processor, memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from django.apps import apps

from benchmarks.bench import Bench, say
from benchmarks.cases.case import Case
from benchmarks.contenders import Contender, Engine, PeerContender
from benchmarks.processes import WorkerFailed
from benchmarks.requirements import Requirement
from benchmarks.results import CaseResult, Series
from benchmarks.service import Service, serving

SECONDS = 60.0
# By then everybody has reported what it did at its start.
QUIET = 15.0
STATEMENTS, PROCESSOR, MEMORY = "transactions/s", "% of a processor", "MB"
OURS = "django-fsmworker"


@dataclass
class Idleness:
    """What was counted in `seconds`."""

    seconds: float
    processor_seconds: float
    megabytes: float
    transactions: float


class EveryModel(Engine):
    """All models of the project but the one whose states want a sweep each second."""

    def labels(self) -> Sequence[str]:
        own = apps.get_app_config("benchmarks").get_models()
        graphs = {model._meta.label: getattr(model, "state_graph", None) for model in own}
        return [label for label, graph in graphs.items() if graph and not graph.swept_states]


def measure(bench: Bench) -> list[Series]:
    """All are idle at the same time. (Outside transactions, a statement is one.)"""
    contenders: list[Contender] = [EveryModel("Noop")]
    contenders += [PeerContender(peer, peer.default, bench.server) for peer in bench.peers]
    found = idle(contenders, bench.seconds(SECONDS), bench.seconds(QUIET))
    return [
        series
        for each in contenders
        if each.name in found
        for series in series_of(each, found[each.name])
    ]


def idle(contenders: Sequence[Contender], seconds: float, quiet: float) -> dict[str, Idleness]:
    """Watch those that can be started; the others say why not, and are left out."""
    services: list[Service] = []
    with ExitStack() as stack:
        for each in contenders:
            try:
                services.append(stack.enter_context(serving(each, quiet=0)))
            except WorkerFailed as error:
                say(f"  {each.name}: {error}")
        time.sleep(quiet)
        before = [spent(service) for service in services]
        time.sleep(seconds)
        after = [spent(service) for service in services]
        sizes = [service.worker.resident_bytes() / 2**20 for service in services]
    return {
        service.contender.name: Idleness(seconds, now[0] - then[0], megabytes, now[1] - then[1])
        for service, then, now, megabytes in zip(services, before, after, sizes, strict=True)
    }


def spent(service: Service) -> tuple[float, float]:
    """Seconds of a processor and transactions, so far."""
    return service.worker.processor_seconds(), service.contender.transactions_so_far()


def series_of(contender: Contender, found: Idleness) -> list[Series]:
    values = {
        STATEMENTS: found.transactions / found.seconds,
        PROCESSOR: 100 * found.processor_seconds / found.seconds,
        MEMORY: found.megabytes,
    }
    say(f"  {contender.name}: " + ", ".join(f"{value:.2f} {it}" for it, value in values.items()))
    return [
        Series(contender.name, contender.settings, unit, contender.peer, [value])
        for unit, value in values.items()
    ]


def ours(unit: str) -> Callable[[CaseResult], float]:
    def value(result: CaseResult) -> float:
        found = [each for each in result.series if (each.name, each.unit) == (OURS, unit)]
        if not found:
            raise KeyError(unit)
        return found[0].values[0]

    return value


CASE = Case(
    "idle",
    "Idle workers",
    measure,
    [
        Requirement("idle", 0.5, "statements/s", ours(STATEMENTS), at_most=True),
        Requirement("idle", 0.2, PROCESSOR, ours(PROCESSOR), at_most=True),
        Requirement("idle", 70, MEMORY, ours(MEMORY), at_most=True, digits=0),
    ],
    about=(
        "Workers with an empty queue, all at the same time: ours for all models of the "
        "project, but for one that asks for a sweep each second. Statements are transactions in "
        "the count of the database, outside of which nobody runs any here; it is asked for "
        "that count when everybody has been idle for a while, and again a minute later."
    ),
)

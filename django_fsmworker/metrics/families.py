"""The metrics of a runner as plain data, which one process can tell another."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django_fsmworker.models.limits import Pause
from django_fsmworker.runner.counters import EXPIRED, SUPERSEDED
from django_fsmworker.runner.measurements import Histograms
from django_fsmworker.runner.stator_runner import StatorRunner
from django_fsmworker.runner.status import RunningCheck

Kind = Literal["counter", "gauge", "histogram"]
Joint = Literal["sum", "max", "min"]
MODEL, STATE = ("model",), ("model", "state")


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric: its name, what kind it is, what it says, and by which labels it is kept.

    ``joint`` is what several runners of one process come to.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    joint: Joint = "sum"


DEFINITIONS = {
    each.name: each
    for each in (
        Definition(
            "fsmworker_up", "gauge", "1: the process runs and tells of itself.", joint="max"
        ),
        Definition(
            "fsmworker_ready", "gauge", "1: the process takes up rows; as /readyz says.",
            joint="min",
        ),
        Definition("fsmworker_in_flight", "gauge", "Rows that the process holds."),
        Definition(
            "fsmworker_attempts_total", "counter", "Attempts that were settled.",
            ("model", "state", "outcome"),
        ),
        Definition(
            "fsmworker_transitions_total", "counter", "Moves that attempts have made.",
            ("model", "from", "to"),
        ),
        Definition(
            "fsmworker_attempt_seconds", "histogram",
            "From the start of a check until its outcome was written.", STATE,
        ),
        Definition(
            "fsmworker_queue_seconds", "histogram",
            "From the claim of a row until its check started.", STATE,
        ),
        Definition("fsmworker_claim_seconds", "histogram", "Of statements that claim rows.", MODEL),
        Definition("fsmworker_settle_batch_size", "histogram", "Rows settled at once.", MODEL),
        Definition(
            "fsmworker_superseded_total", "counter", "Attempts whose rows had moved on.", MODEL
        ),
        Definition("fsmworker_deleted_total", "counter", "Expired rows that were deleted.", MODEL),
        Definition("fsmworker_running", "gauge", "Calls of checks that run.", STATE),
        Definition(
            "fsmworker_longest_running_seconds", "gauge", "For how long the first of them has.",
            STATE, "max",
        ),
        Definition(
            "fsmworker_abandoned_threads", "gauge", "Calls that were interrupted and do not end."
        ),
        Definition(
            "fsmworker_due_rows", "gauge",
            "Rows that waited to be claimed, of the whole fleet, up to 10,000; looked at each "
            "minute.", MODEL,
        ),
        Definition(
            "fsmworker_oldest_due_seconds", "gauge",
            "For how long the first of them had waited.", MODEL, "max",
        ),
        Definition("fsmworker_paused", "gauge", "1: all rows in the state wait.", STATE, "max"),
        Definition(
            "fsmworker_paused_keys", "gauge", "Keys of the state whose rows wait.", STATE
        ),
        Definition(
            "fsmworker_breaker_open", "gauge",
            "1: the state's breaker is open, or one row is tried.", STATE, "max",
        ),
    )
}  # fmt: skip

# Values of labels, and a number, or a histogram: counts up to each bound, the last of which is
# infinity, and the sum.
Sample = tuple[list[str], float] | tuple[list[str], list[tuple[str, float]], float]
Samples = dict[str, list[Sample]]


def samples_of(runner: StatorRunner, ready: Callable[[], bool]) -> Samples:
    """What there is to say of a runner now, by the names of the metrics."""
    status, parts = runner.status(), runner.parts
    running: defaultdict[tuple[str, ...], list[RunningCheck]] = defaultdict(list)
    for check in status.threads.running + status.event_loop.running:
        running[check.model, check.state].append(check)
    abandoned = status.threads.abandoned + status.event_loop.abandoned
    waiting = {model._meta.label: each for model, each in parts.housekeeping.waiting.items()}
    samples: Samples = {
        "fsmworker_up": [([], 1.0)],
        "fsmworker_ready": [([], float(ready()))],
        "fsmworker_in_flight": [([], float(status.in_flight))],
        "fsmworker_abandoned_threads": [([], float(abandoned))],
        "fsmworker_running": numbers((key, len(each)) for key, each in running.items()),
        "fsmworker_longest_running_seconds": numbers(
            (key, max(check.seconds for check in each)) for key, each in running.items()
        ),
        "fsmworker_due_rows": numbers(((key,), each["due"]) for key, each in waiting.items()),
        "fsmworker_oldest_due_seconds": numbers(
            ((key,), each["oldest_due"]) for key, each in waiting.items()
        ),
    }
    for name, counted in (
        ("fsmworker_superseded_total", SUPERSEDED), ("fsmworker_deleted_total", EXPIRED)
    ):  # fmt: skip
        samples[name] = numbers(
            ((model._meta.label,), runner.counters.total(counted, model)) for model in runner.stores
        )
    return {**samples, **_held_back(runner), **_measured(runner)}


def _held_back(runner: StatorRunner) -> Samples:
    """What is paused, as the runner knows; nothing of what is not."""
    paused: set[tuple[str, str]] = set()
    breakers: set[tuple[str, str]] = set()
    keys: Counter[tuple[str, str]] = Counter()
    for model, state, pause in runner.parts.limiter.pauses.in_force():
        lane = model._meta.label, state
        if pause.kind == Pause.Kind.BREAKER:
            breakers.add(lane)
        elif pause.digest:
            keys[lane] += 1
        else:
            paused.add(lane)
    return {
        "fsmworker_paused": numbers((lane, 1) for lane in paused),
        "fsmworker_paused_keys": numbers(keys.items()),
        "fsmworker_breaker_open": numbers((lane, 1) for lane in breakers),
    }


def added_up(some: Sequence[Samples]) -> Samples:
    """The samples of several runners of one process, as those of one."""
    if len(some) == 1:
        return some[0]
    return {
        name: _joined(definition, [each for samples in some for each in samples.get(name, [])])
        for name, definition in DEFINITIONS.items()
        if any(name in samples for samples in some)
    }


def _joined(definition: Definition, samples: Iterable[Sample]) -> list[Sample]:
    by_labels: dict[tuple[str, ...], Sample] = {}
    join: Any = {"sum": lambda a, b: a + b, "max": max, "min": min}[definition.joint]
    for sample in samples:
        key = tuple(sample[0])
        before = by_labels.get(key)
        if before is None:
            by_labels[key] = sample
        elif len(sample) == 2:
            by_labels[key] = sample[0], join(before[1], sample[1])
        else:
            earlier: Any = before
            pairs = zip(earlier[1], sample[1], strict=True)
            buckets = [(bound, one + other) for (bound, one), (_, other) in pairs]
            by_labels[key] = sample[0], buckets, earlier[2] + sample[2]
    return list(by_labels.values())


def numbers(values: Iterable[tuple[tuple[str, ...], Any]]) -> list[Sample]:
    """Samples of one number each."""
    return [(list(key), float(value)) for key, value in values]


def _measured(runner: StatorRunner) -> Samples:
    measurements = runner.parts.measurements
    if measurements is None:
        return {}
    with measurements.lock:
        return {
            "fsmworker_attempts_total": numbers(measurements.attempts.items()),
            "fsmworker_transitions_total": numbers(measurements.transitions.items()),
            "fsmworker_attempt_seconds": _histograms(measurements.attempt_seconds),
            "fsmworker_queue_seconds": _histograms(measurements.queue_seconds),
            "fsmworker_claim_seconds": _histograms(measurements.claim_seconds),
            "fsmworker_settle_batch_size": _histograms(measurements.batch_sizes),
        }


def _histograms(histograms: Histograms) -> list[Sample]:
    samples: list[Sample] = []
    for key, histogram in histograms.items():
        buckets, total = [], 0
        bounds = [*map(str, histogram.bounds), "+Inf"]
        for bound, count in zip(bounds, histogram.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        samples.append((list(key), buckets, histogram.sum))
    return samples


Processes = Mapping[int, Samples]
"""The samples of each process, by its number among its supervisor's; 0: there is no supervisor."""

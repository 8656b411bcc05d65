"""The page ``/metrics``: samples in Prometheus' own format, which its client library writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django_fsmworker.health.server import Answer, Page
from django_fsmworker.metrics.families import DEFINITIONS, Definition, Processes, Sample
from django_fsmworker.runner.measurements import can_be_shown

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MISSING = (
    "Metrics need the package prometheus-client: install django-fsmworker[prometheus], and start "
    "the runner again.\n"
)


def metrics_page(collect: Callable[[], Processes]) -> Page:
    """The page with what ``collect`` returns; without the client library it says so."""

    def page() -> Answer:
        if not can_be_shown():
            return Answer(HTTPStatus.NOT_IMPLEMENTED, MISSING)
        return exposition(collect())

    return page


def exposition(processes: Processes) -> Answer:
    """The samples of all processes, each with the label ``process``.

    They are not added up: a process that is followed by another one begins to count anew, which
    Prometheus sees in its own series, and would take for more in a sum.
    """
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    text = generate_latest(_Collected(processes)).decode()
    return Answer(HTTPStatus.OK, text, CONTENT_TYPE_LATEST)


class _Collected:
    """What the client library takes for a registry."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        for definition in DEFINITIONS.values():
            metric = _family(definition)
            for number, samples in sorted(self._processes.items()):
                for sample in samples.get(definition.name, []):
                    _add(metric, str(number), sample)
            yield metric


def _family(definition: Definition) -> Any:
    from prometheus_client import core

    makers: dict[str, Any] = {
        "counter": core.CounterMetricFamily,
        "gauge": core.GaugeMetricFamily,
        "histogram": core.HistogramMetricFamily,
    }
    labels = ["process", *definition.labels]
    return makers[definition.kind](definition.name, definition.help, labels=labels)


def _add(metric: Any, number: str, sample: Sample) -> None:
    labels = [number, *sample[0]]
    if len(sample) == 2:
        metric.add_metric(labels, sample[1])
    else:
        metric.add_metric(labels, buckets=[tuple(each) for each in sample[1]], sum_value=sample[2])

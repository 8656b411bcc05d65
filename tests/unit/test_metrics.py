"""The page /metrics: what it has of one process, of several, and without its library."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from django_fsmworker.metrics import exposition as exposition_module
from django_fsmworker.metrics.exposition import exposition, metrics_page
from django_fsmworker.metrics.families import DEFINITIONS, Samples
from django_fsmworker.metrics.reports import Reporter, report_path, reports
from django_fsmworker.runner.measurements import Histogram
from tests.documentation import read

SAMPLES: Samples = {
    "fsmworker_up": [([], 1.0)],
    "fsmworker_attempts_total": [(["shop.Order", "paid", "moved"], 7.0)],
    "fsmworker_claim_seconds": [(["shop.Order"], [("0.1", 2.0), ("+Inf", 3.0)], 1.5)],
}


def values(text: str) -> dict[str, float]:
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class TestExposition:
    def test_has_the_samples_of_each_process(self) -> None:
        down: Samples = {"fsmworker_up": [([], 0.0)]}

        answer = exposition({1: SAMPLES, 2: down})

        assert answer.content_type.startswith("text/plain; version=")
        assert values(answer.text) == {
            "fsmworker_up['1']": 1,
            "fsmworker_up['2']": 0,
            "fsmworker_attempts_total['1', 'moved', 'paid', 'shop.Order']": 7,
            "fsmworker_claim_seconds_bucket['0.1', '1', 'shop.Order']": 2,
            "fsmworker_claim_seconds_bucket['+Inf', '1', 'shop.Order']": 3,
            "fsmworker_claim_seconds_count['1', 'shop.Order']": 3,
            "fsmworker_claim_seconds_sum['1', 'shop.Order']": 1.5,
        }

    def test_without_the_client_library_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exposition_module, "can_be_shown", lambda: False)

        answer = metrics_page(lambda: {0: SAMPLES})()

        assert (answer.status, answer.text) == (
            501,
            "Metrics need the package prometheus-client: install django-fsmworker[prometheus], "
            "and start the runner again.\n",
        )


class TestReports:
    def test_are_read_of_those_that_run(self, tmp_path: Path) -> None:
        reporter = Reporter(tmp_path, lambda: SAMPLES)
        reporter.report()
        report_path(tmp_path, 1).write_text(json.dumps(SAMPLES))  # of one that was killed

        found = reports(tmp_path, {1: os.getpid(), 2: None, 3: 2})

        assert values(exposition(found).text)["fsmworker_up['1']"] == 1
        assert found[2] == found[3] == {"fsmworker_up": [([], 0.0)]}

    def test_are_taken_back_at_the_end(self, tmp_path: Path) -> None:
        reporter = Reporter(tmp_path, lambda: SAMPLES)
        reporter.start()

        reporter.stop()

        assert list(tmp_path.iterdir()) == []

    def test_that_fail_are_logged(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        def broken() -> Any:
            raise ValueError("no such thing")

        Reporter(tmp_path, broken).report()

        (record,) = caplog.records
        assert (record.__dict__["action"], record.message) == (
            "metrics_failed",
            "Metrics could not be reported.",
        )


def test_many_values_are_counted_as_one_after_the_other() -> None:
    values = [0.5, 2.0, 1.0, 3.0, 2.5, 1.5, 2.0]
    together, singly = Histogram((1.0, 2.0, 4.0)), Histogram((1.0, 2.0, 4.0))

    together.observe_all(values)
    together.observe_all([])
    for value in values:
        singly.observe(value)

    assert together == singly
    assert together.counts == [2, 3, 2, 0]


def test_a_histogram_counts_what_is_at_most_a_bound() -> None:
    histogram = Histogram((1.0, 2.0))

    for value in (0.5, 1.0, 1.5, 3.0):
        histogram.observe(value)

    assert (histogram.counts, histogram.sum) == ([2, 1, 1], 6.0)


def test_the_reference_has_every_metric() -> None:
    documented = re.findall(r"^\| `(fsmworker_\w+)` \|", read("reference/metrics.md"), re.MULTILINE)

    assert documented == list(DEFINITIONS)

"""Spans of OpenTelemetry: one for each attempt, linked to the trace that set it off."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from django_fsmworker.exceptions import ConfigurationError, TryAgainLater
from django_fsmworker.models import Event
from django_fsmworker.runner import StatorRunner
from django_fsmworker.runner.execution.tracing import Tracing
from django_fsmworker.traces import current_trace, id_of, is_trace
from tests.app.models import Traced, traced
from tests.runner.embedded import one_pass
from tests.runner.exported_spans import attempts, linked, request
from tests.runner.rows import fresh

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_spans")]


def run() -> StatorRunner:
    return one_pass(Traced, traces=True)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def check(row: Any) -> None:
        raise error

    monkeypatch.setitem(traced.CHECKS, "finish", check)


class TestSpans:
    def test_each_attempt_is_one(self) -> None:
        row = Traced.objects.create()

        worker = run().worker

        (span,) = attempts()
        assert (span.name, span.kind) == ("tests.Traced new", SpanKind.CONSUMER)
        assert span.status.status_code is StatusCode.UNSET
        assert dict(span.attributes or {}) == {
            "messaging.system": "fsmworker",
            "messaging.operation.name": "attempt",
            "messaging.operation.type": "process",
            "messaging.destination.name": "tests.Traced",
            "messaging.client.id": worker,
            "fsmworker.model": "tests.Traced",
            "fsmworker.state": "new",
            "fsmworker.attempt": 1,
            "fsmworker.worker": worker,
            "fsmworker.rows": 1,
            "fsmworker.pk": str(row.pk),
            "fsmworker.target": "done",
        }

    def test_it_is_active_while_the_check_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[str] = []

        async def check(row: Any) -> str:
            seen.append(id_of(current_trace()))
            return "done"

        monkeypatch.setitem(traced.ASYNC_CHECKS, "finish", check)
        Traced.objects.create(state="calm")

        run()

        (span,) = attempts()
        assert seen == [f"{span.context.trace_id:032x}"]

    def test_a_batch_is_one_with_a_link_for_each_trace(self) -> None:
        traces = []
        for _ in range(2):
            with request():
                traces.append(id_of(current_trace()))
                Traced.objects.create(state="grouped")
                Traced.objects.create(state="grouped")

        run()

        (span,) = attempts()
        assert sorted(linked(span)) == sorted(traces)
        assert (span.attributes or {})["fsmworker.rows"] == 4

    def test_a_failure_is_an_error(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        fail_with(monkeypatch, ValueError("no"))
        Traced.objects.create()

        run()

        (span,) = attempts()
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description == "ValueError"
        assert [each.name for each in span.events] == ["exception"]
        assert (span.attributes or {})["error.type"] == "builtins.ValueError"
        (record,) = [each for each in caplog.records if getattr(each, "action", "") == "failed"]
        assert vars(record)["trace_id"] == f"{span.context.trace_id:032x}"

    def test_a_row_of_a_batch_that_failed_is_logged_with_the_trace_of_the_call(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setitem(traced.CHECKS, "finish", lambda rows: ["done", ValueError("no")])
        for _ in range(2):
            Traced.objects.create(state="grouped")

        run()

        (span,) = attempts()
        (record,) = [each for each in caplog.records if getattr(each, "action", "") == "failed"]
        assert vars(record)["trace_id"] == f"{span.context.trace_id:032x}"

    def test_to_be_tried_later_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fail_with(monkeypatch, TryAgainLater())
        Traced.objects.create()

        run()

        (span,) = attempts()
        assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())

    def test_by_default_there_are_none(self) -> None:
        Traced.objects.create()

        one_pass(Traced)

        assert attempts() == []


class TestLinks:
    def test_to_the_trace_that_created_the_row(self) -> None:
        with request():
            row, origin = Traced.objects.create(), id_of(current_trace())

        run()

        assert linked(attempts()[0]) == [origin]
        assert is_trace(row.state_trace)

    def test_to_the_trace_that_moved_the_row_last(self) -> None:
        with request():
            row = Traced.objects.create(state="held")
        with request():
            row.state_move("new")
            mover = current_trace()

        assert row.state_trace == fresh(row).state_trace == mover
        run()

        assert linked(attempts()[0]) == [mover[3:35]]

    @pytest.mark.parametrize("how", ["assigned", "forced", "queryset"])
    def test_whatever_moved_it(self, how: str) -> None:
        row = Traced.objects.create(state="held")

        with request():
            if how == "assigned":
                row.state = "new"
                row.save()
            elif how == "forced":
                row.state_transition("new")
            else:
                Traced.state_transition_queryset(Traced.objects.all(), "new")
            mover = current_trace()

        assert fresh(row).state_trace == mover

    def test_who_moves_it_outside_of_a_trace_leaves_none(self) -> None:
        with request():
            row = Traced.objects.create(state="held")

        row.state_move("new")

        assert fresh(row).state_trace == ""
        run()
        assert linked(attempts()[0]) == []

    def test_a_save_does_not_write_it(self) -> None:
        row = Traced.objects.create(state="held")
        stale = fresh(row)
        with request():
            row.state_move("new")

        stale.mode = "other"
        stale.save()

        assert fresh(row).state_trace == row.state_trace

    def test_to_the_trace_that_submitted_an_event(self, settings: Any) -> None:
        settings.FSMWORKER = {"TRACES": True}
        row = Traced.objects.create(state="held")
        with request():
            row.state_submit("release")
            origin = current_trace()

        assert Event.objects.get().trace == origin
        run()
        assert fresh(row).state_trace == origin
        run()

        delivery, attempt = attempts()
        assert (delivery.name, attempt.name) == ("tests.Traced release", "tests.Traced new")
        assert linked(delivery) == linked(attempt) == [origin[3:35]]

    def test_events_of_many_rows_keep_it_too(self, settings: Any) -> None:
        settings.FSMWORKER = {"TRACES": True}
        Traced.objects.bulk_create(Traced(state="held") for _ in range(2))
        with request():
            Traced.objects.all().state_submit("release")
            origin = current_trace()

        assert [each.trace for each in Event.objects.all()] == [origin] * 2

    def test_events_keep_none_by_default(self) -> None:
        row = Traced.objects.create(state="held")
        with request():
            row.state_submit("release")

        assert Event.objects.get().trace is None

    def test_what_is_no_trace_is_linked_to_nothing(self) -> None:
        assert Tracing().links(["", None, "00-nonsense"]) == []


def test_without_the_package_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)

    with pytest.raises(ConfigurationError) as raised:
        StatorRunner([Traced], traces=True)

    assert str(raised.value) == (
        "traces need the package opentelemetry-api: install django-fsmworker[otel]."
    )


def test_where_nobody_has_loaded_it_there_is_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    with request():
        monkeypatch.delitem(sys.modules, "opentelemetry.trace")

        assert current_trace() == ""

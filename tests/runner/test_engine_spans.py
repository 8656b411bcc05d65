"""Spans of claims, guards and settling, of which an idle runner makes none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import DatabaseError, connection
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from django_fsmworker.runner import StatorRunner
from django_fsmworker.runner.execution.engine_spans import EngineSpans
from django_fsmworker.runner.execution.tracing import Tracing
from django_fsmworker.store import store_for
from tests.app.models import Traced
from tests.runner.embedded import Embedded, one_pass
from tests.runner.exported_spans import (
    attempts,
    engine,
    linked,
    named,
    request,
    traceparent,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_spans")]


def run() -> StatorRunner:
    return one_pass(Traced, traces=True)


def attributes(name: str) -> dict[str, Any]:
    (span,) = named(name)
    return dict(span.attributes or {})


def test_a_claim_and_a_settling_are_one_each() -> None:
    Traced.objects.create()

    worker = run().worker

    assert [each.name for each in engine()] == ["claim tests.Traced", "settle tests.Traced"]
    common = {
        "messaging.system": "fsmworker",
        "messaging.destination.name": "tests.Traced",
        "messaging.client.id": worker,
        "messaging.batch.message_count": 1,
        "fsmworker.model": "tests.Traced",
        "db.system.name": connection.display_name.lower(),
        "db.namespace": str(connection.settings_dict["NAME"]),
        "db.collection.name": "tests_traced",
    }
    assert attributes("claim tests.Traced") == {
        **common,
        "messaging.operation.name": "claim",
        "messaging.operation.type": "receive",
    }
    assert attributes("settle tests.Traced") == {
        **common,
        "messaging.operation.name": "settle",
        "messaging.operation.type": "settle",
    }


def test_a_claim_is_linked_to_where_its_rows_come_from_and_lasts_as_long_as_it_did() -> None:
    with request():
        row = Traced.objects.create()

    run()

    (claim,), (attempt,) = named("claim tests.Traced"), attempts()
    assert linked(claim) == [row.state_trace[3:35]]
    assert claim.start_time < claim.end_time <= attempt.start_time  # type: ignore[operator]


def test_a_settling_is_linked_to_the_attempts() -> None:
    Traced.objects.bulk_create(Traced() for _ in range(20))

    run()

    found = named("settle tests.Traced")
    links = [each for settling in found for each in linked(settling)]
    assert sorted(links) == sorted(traceparent(each)[3:35] for each in attempts())
    rows = [(each.attributes or {})["messaging.batch.message_count"] for each in found]
    assert sum(rows) == 20  # type: ignore[arg-type]


@pytest.mark.parametrize("state", ["guarded", "weighed"])
@pytest.mark.parametrize(("mode", "moved"), [("heavy", 1), ("finish", 0)])
def test_guards_are_asked_in_one_which_tells_how_many_rows_they_move(
    state: str, mode: str, moved: int
) -> None:
    Traced.objects.create(state=state, mode=mode)

    worker = run().worker

    found = attributes(f"guards tests.Traced {state}")
    assert found["fsmworker.moved"] == moved
    assert (found["fsmworker.state"], found["fsmworker.worker"]) == (state, worker)
    assert found["db.collection.name"] == "tests_traced"


def test_an_idle_runner_makes_none(
    start_runner: Callable[..., Embedded], eventually: Callable[..., Any]
) -> None:
    embedded = start_runner(Traced, traces=True, poll_interval=0.02)

    eventually(lambda: embedded.runner.rounds > 5)
    embedded.stop()

    assert engine() == []


@pytest.mark.parametrize("what", ["claim", "settling", "guards"])
def test_what_fails_is_an_error(what: str) -> None:
    spans, store = EngineSpans("host:1"), store_for("default")
    around: dict[str, Callable[[], Any]] = {
        "claim": lambda: spans.claim(store, Traced),
        "settling": lambda: spans.settling(store, Traced, [], 1),
        "guards": lambda: spans.guards(store, Traced, "guarded"),
    }

    with pytest.raises(DatabaseError), around[what]():
        raise DatabaseError("no")

    (span,) = engine()
    assert span.status.status_code is StatusCode.ERROR
    assert [each.name for each in span.events] == ["exception"]
    assert (span.attributes or {})["error.type"] == "django.db.utils.DatabaseError"


def test_without_a_provider_nothing_is_asked_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    monkeypatch.setattr(Tracing, "links", None)
    Traced.objects.create()
    Traced.objects.create(state="guarded", mode="heavy")

    run()

    assert not Traced.objects.exclude(state="done").exists()
    assert (engine(), attempts()) == ([], [])


def test_by_default_there_is_nothing_that_could_make_any() -> None:
    parts = StatorRunner([Traced]).parts

    assert [parts.claimer._spans, parts.settler._spans, parts.sweeper._spans] == [None] * 3
    assert parts.evaluator is not None
    assert parts.evaluator._spans is None

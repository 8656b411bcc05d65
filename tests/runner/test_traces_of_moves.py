"""A row keeps the trace of what has moved it, also where a runner has: no statement more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.app.models import Traced, traced
from tests.database.rows import put
from tests.runner.embedded import Embedded, one_pass
from tests.runner.exported_spans import (
    attempts,
    linked,
    named,
    request,
    traceparent,
)
from tests.runner.rows import fresh

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("no_spans")]


def made(**fields: Any) -> Traced:
    """A row that a request has made."""
    with request():
        return Traced.objects.create(**fields)


def run() -> None:
    one_pass(Traced, traces=True)


@pytest.mark.parametrize("state", ["new", "calm", "grouped", "sealed"])
def test_the_attempt_that_moved_it(state: str) -> None:
    row = made(state=state)

    run()

    (span,) = attempts()
    assert (fresh(row).state, fresh(row).state_trace) == ("done", traceparent(span))


def test_rows_of_one_settling_have_their_own() -> None:
    rows = [made(state=state) for state in ("new", "calm", "new")]

    run()

    by_key = {(each.attributes or {})["fsmworker.pk"]: traceparent(each) for each in attempts()}
    assert [fresh(row).state_trace for row in rows] == [by_key[str(row.pk)] for row in rows]
    assert len(set(by_key.values())) == 3


def test_one_that_stays_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(traced.CHECKS, "finish", lambda row: None)
    row = made()

    run()

    assert fresh(row).state_trace == row.state_trace != ""


def test_the_attempt_whose_failure_moved_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(row: Any) -> None:
        raise ValueError("no")

    monkeypatch.setitem(traced.CHECKS, "finish", check)
    row = made()
    put(row, state_failures=1)

    run()

    (span,) = attempts()
    assert (fresh(row).state, fresh(row).state_trace) == ("failed", traceparent(span))


def test_the_settling_of_a_timeout() -> None:
    row = made(state="waiting")
    put(row, state_changed=-timedelta(hours=1), state_next=-timedelta(minutes=1))

    run()

    (settling,) = named("settle tests.Traced")
    assert attempts() == []
    assert (fresh(row).state, fresh(row).state_trace) == ("done", traceparent(settling))


@pytest.mark.parametrize("state", ["guarded", "weighed"])
def test_the_guard_that_moved_it(state: str) -> None:
    row = made(state=state, mode="heavy")

    run()

    (guards,) = named(f"guards tests.Traced {state}")
    assert attempts() == []
    assert (fresh(row).state, fresh(row).state_trace) == ("done", traceparent(guards))


def test_each_attempt_of_a_row_that_runs_on(
    monkeypatch: pytest.MonkeyPatch,
    start_runner: Callable[..., Embedded],
    eventually: Callable[..., Any],
) -> None:
    monkeypatch.setitem(traced.CHECKS, "finish", lambda row: "calm")
    row = made()

    embedded = start_runner(Traced, traces=True)
    eventually(lambda: fresh(row).state == "done" and len(attempts()) == 2)
    embedded.stop()

    first, second = attempts()
    assert linked(second) == [traceparent(first)[3:35]]
    assert fresh(row).state_trace == traceparent(second)


@pytest.mark.parametrize("state", ["new", "calm", "sealed"])
def test_an_inline_attempt(state: str, settings: Any) -> None:
    settings.FSMWORKER = {"TRACES": True}
    row = made(state=state)

    assert row.state_transition_check()

    (span,) = attempts()
    assert fresh(row).state_trace == row.state_trace == traceparent(span)


def test_the_caller_of_an_inline_attempt_that_is_no_span() -> None:
    row = made()

    with request():
        row.state_transition_check()

    assert fresh(row).state_trace == traceparent(named("request")[-1])


def test_a_runner_without_spans_leaves_it() -> None:
    rows = [made(), made(state="guarded", mode="heavy")]

    one_pass(Traced)

    assert [fresh(row).state for row in rows] == ["done", "done"]
    assert [fresh(row).state_trace for row in rows] == [row.state_trace for row in rows]

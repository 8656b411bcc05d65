"""What makes a runner not alive, or not ready."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from django_fsmworker.health.pages import not_alive, not_ready
from django_fsmworker.runner.status import ExecutorStatus, HintsStatus, RunnerStatus

EXECUTOR = ExecutorStatus(size=1, running=(), waiting=0, abandoned=0)
WORKING = RunnerStatus(
    worker="worker",
    stopping=False,
    draining=False,
    single_pass=False,
    exhausted=True,
    seconds_to_wait=1.0,
    rounds=5,
    suspended=False,
    seconds_since_progress=1.0,
    unknown_to=(),
    databases_away=(),
    models_resting=(),
    in_flight=0,
    threads=EXECUTOR,
    event_loop=EXECUTOR,
    hints=HintsStatus(active=True, received=0, unknown=0, sent=0),
    counters={},
)
STALLED = "The main loop has not come round for 61 s."
STUCK = "Rows are due and a slot is free, but no claim could be sent for a minute."
STOPPING: dict[str, Any] = {"stopping": True, "draining": True}


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({}, []),
        ({"seconds_since_progress": 59.0}, []),
        ({"seconds_since_progress": 61.0}, [STALLED]),
        ({"seconds_since_progress": float("inf")}, [STUCK]),
        ({"seconds_since_progress": None}, []),
        ({"seconds_since_progress": 61.0, **STOPPING}, []),
        ({"suspended": True}, []),
        ({"databases_away": ("default",)}, []),
    ],
)
def test_alive_is_what_makes_progress_or_cannot_help_it(
    changes: dict[str, Any], sentences: list[str]
) -> None:
    assert not_alive(replace(WORKING, **changes), 60) == sentences


@pytest.mark.parametrize(
    ("changes", "sentences"),
    [
        ({}, []),
        ({"seconds_since_progress": 61.0}, [STALLED]),
        ({"seconds_since_progress": None}, ["It has not started yet."]),
        ({"seconds_since_progress": None, "stopping": True}, ["It is stopping."]),
        (STOPPING, ["It is stopping."]),
        ({"suspended": True}, ["It is suspended."]),
        ({"databases_away": ("default",)}, ["The database 'default' is away."]),
        ({"unknown_to": ("default",)}, ["It cannot give a sign of life in 'default'."]),
        ({"models_resting": ("shop.Order",)}, ["The table of shop.Order is not as expected."]),
    ],
)
def test_ready_is_what_takes_up_rows(changes: dict[str, Any], sentences: list[str]) -> None:
    assert not_ready(replace(WORKING, **changes), 60) == sentences

"""The clock: this machine's time, and what a test has travelled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from django_fsmworker import clock


@pytest.fixture(autouse=True)
def home_again():
    yield
    clock.travel(-clock.travelled())


def test_now_is_in_utc():
    before = datetime.now(UTC)

    now = clock.now()

    assert before <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC


def test_travelling_adds_up():
    clock.travel(timedelta(hours=2))
    clock.travel(timedelta(hours=-1))

    assert clock.travelled() == timedelta(hours=1)
    assert abs(clock.now() - datetime.now(UTC) - timedelta(hours=1)) < timedelta(seconds=5)

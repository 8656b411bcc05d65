"""Moments as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from django_fsmworker.diagnosis.wording import when

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=9))])
def test_are_in_utc_whatever_zone_a_database_has(zone: timezone) -> None:
    moment = (NOON + timedelta(seconds=42)).astimezone(zone)

    assert when(moment, NOON) == "2026-01-01 12:00:42 UTC (in 42 s)"

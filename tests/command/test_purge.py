"""``manage.py stator purge``: old records."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management.base import CommandError

from django_fsmworker import clock
from django_fsmworker.models import FailureRecord, StatorLog, TransitionRecord
from django_fsmworker.store import purging
from tests.command.conftest import Ended

pytestmark = pytest.mark.django_db(databases=["default", "other"])

Stator = Callable[..., Ended]


def fill(days: float) -> None:
    """One record of each kind, that many days old."""
    moment = clock.now() - timedelta(days=days)
    StatorLog.objects.create(model="a.B", worker="w", since=moment, until=moment)
    FailureRecord.objects.create(
        model="a.B", row=str(days), first_seen=moment, last_seen=moment, resolved=moment
    )
    TransitionRecord.objects.create(
        model="a.B", row="1", digest=1, source="a", target="b", at=moment, cause="check"
    )


def left() -> list[int]:
    return [each.objects.count() for each in (StatorLog, FailureRecord, TransitionRecord)]


def of_default(ended: Ended) -> list[int]:
    return [each["number"] for each in ended.data if each["database"] == "default"]


def test_as_long_as_runners_keep_them(stator: Stator) -> None:
    fill(5)
    fill(10)
    fill(40)
    fill(100)

    ended = stator("purge", "--json")

    assert of_default(ended) == [2, 3, 1]
    assert left() == [2, 1, 3]


@pytest.mark.parametrize("age", ["2", "2d", "48h"])
def test_of_an_age(stator: Stator, monkeypatch: pytest.MonkeyPatch, age: str) -> None:
    monkeypatch.setattr(purging, "AT_ONCE", 2)
    for days in (5, 6, 7, 1):
        fill(days)

    assert of_default(stator("purge", "--older-than", age, "--json")) == [3, 3, 3]
    assert left() == [1, 1, 1]


@pytest.mark.parametrize("age", ["-1", "nan", "1e300", "9999999d"])
def test_of_what_is_no_age(stator: Stator, age: str) -> None:
    with pytest.raises(CommandError, match=f"'{age}' is not an age such as 90s, 30m, 12h or 7d"):
        stator("purge", f"--older-than={age}")


def test_what_is_not_resolved_stays(stator: Stator) -> None:
    fill(100)
    FailureRecord.objects.update(resolved=None)

    stator("purge")

    assert FailureRecord.objects.count() == 1


def test_transitions_that_are_kept_for_ever(stator: Stator, settings: Any) -> None:
    settings.FSMWORKER = {"KEEP_TRANSITIONS": 0}
    fill(1000)

    assert of_default(stator("purge", "--json")) == [1, 1, 0]


def test_a_dry_run(stator: Stator) -> None:
    fill(100)

    lines = stator("purge", "--dry-run").lines

    assert lines[0].split() == ["database", "records", "old"]
    assert ["default", "stator", "logs", "1"] in [line.split() for line in lines]
    assert left() == [1, 1, 1]

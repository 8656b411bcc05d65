"""Which failures of a check are those of its database."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.db import connection

from django_fsmworker import clock
from django_fsmworker.runner.database import outages as outages_module
from django_fsmworker.runner.database.outages import OutageTracker, QueryGuard
from django_fsmworker.runner.execution.outcomes import LostConnections
from django_fsmworker.runner.in_flight.attempts import Attempt, attempts_at
from django_fsmworker.store import store_for
from django_fsmworker.store.failures import Failure
from tests.app.models import Trouble

pytestmark = pytest.mark.django_db

LOCKED = Failure("OperationalError", "could not obtain lock on row", locked=True)


class TestALockThatWasNotGiven:
    @pytest.fixture
    def passed(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """``time.monotonic()``, moved by hand."""
        moment = [1000.0]
        monkeypatch.setattr(outages_module, "time", SimpleNamespace(monotonic=lambda: moment[0]))
        return moment

    @pytest.fixture
    def outages(self) -> OutageTracker:
        return OutageTracker()

    @pytest.fixture
    def attempt(self) -> Attempt:
        row = Trouble(pk=1, state_lease=clock.now(), state_claim=2)
        (attempt,) = attempts_at(store_for("default"), Trouble, [row], 1e9, 30.0)
        return attempt

    def test_is_the_check_s_own_failure(self, outages: OutageTracker, attempt: Attempt) -> None:
        assert not LostConnections(outages).explains(attempt, LOCKED)

    def test_is_not_where_the_database_is_away(
        self, outages: OutageTracker, attempt: Attempt
    ) -> None:
        outages.began(QueryGuard(outages, "default"), "no answer for 8 s")

        assert LostConnections(outages).explains(attempt, LOCKED)

    def test_is_not_while_the_runner_waits_for_the_locked_file_itself(
        self, outages: OutageTracker, attempt: Attempt, passed: list[float]
    ) -> None:
        """Other databases give each row its lock: a query that is slow just then has none of it."""
        guard = QueryGuard(outages, "default")

        with guard.asking():
            passed[0] += 1.0
            explained = LostConnections(outages).explains(attempt, LOCKED)

        assert explained is (connection.vendor == "sqlite")

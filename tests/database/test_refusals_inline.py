"""What a database refuses to an attempt without a runner fails, and parks, as in a runner."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, connection

from django_fsmworker.graph import State
from django_fsmworker.models import FailureRecord
from django_fsmworker.testing import run_until_idle, step
from tests.app.models import CheckLog, Trouble
from tests.app.models.trouble import MODES
from tests.database.rows import fetch

pytestmark = pytest.mark.django_db

# The table takes no row with this value in the state "done".
REFUSED = 13


@pytest.fixture
def last_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next failure is the last one, and leads to "done"."""
    done = Trouble.state_graph.states["done"]
    monkeypatch.setattr(State, "failure_state", property(lambda self: done))
    monkeypatch.setattr(Trouble.state_graph.states["new"], "max_attempts", 1)


class TestVerb:
    def test_the_row_has_failed_where_it_was(self) -> None:
        row = Trouble.objects.create(value=REFUSED)

        assert row.state_transition_check() is None

        assert (row.state, row.state_failures) == ("new", 1)
        assert FailureRecord.objects.get().error == "django.db.utils.IntegrityError"
        assert fetch(row).state_next is not None

    def test_what_an_atomic_check_wrote_is_taken_back(self) -> None:
        row = Trouble.objects.create(state="strict", value=REFUSED)

        assert row.state_transition_check() is None

        assert (row.state, row.state_failures) == ("strict", 1)
        assert not CheckLog.objects.exists()

    @pytest.mark.usefixtures("last_try")
    def test_a_row_whose_failure_state_is_refused_is_parked(self) -> None:
        row = Trouble.objects.create(mode="raise", value=REFUSED)

        assert row.state_transition_check() is None

        assert (row.state, row.state_failures, row.state_next) == ("new", 1, None)
        assert FailureRecord.objects.get().error == "django.db.utils.IntegrityError"

    def test_a_database_error_in_a_check_leaves_the_callers_transaction_usable(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def collide(states: Any, row: Trouble) -> None:
            Trouble(pk=row.pk).save(force_insert=True)

        monkeypatch.setitem(MODES, "collide", collide)
        row = Trouble.objects.create(mode="collide")

        assert row.state_transition_check() is None

        assert connection.in_atomic_block
        assert fetch(row).state_failures == 1
        assert FailureRecord.objects.get().error == "django.db.utils.IntegrityError"


class TestKit:
    def test_what_an_atomic_check_wrote_is_taken_back(self) -> None:
        row = Trouble.objects.create(state="strict", value=REFUSED)

        with pytest.raises(IntegrityError):
            step(row)

        assert (row.state, row.state_failures) == ("strict", 1)
        assert not CheckLog.objects.exists()

    @pytest.mark.usefixtures("last_try")
    def test_a_row_whose_failure_state_is_refused_is_parked(self) -> None:
        row = Trouble.objects.create(mode="raise", value=REFUSED)

        assert run_until_idle(Trouble, raise_failures=False) == 1

        assert (fetch(row).state, fetch(row).state_next) == ("new", None)

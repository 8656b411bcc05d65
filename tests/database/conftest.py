from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from django_fsmworker.graph import exponential
from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.models.event import EventStates
from tests.app.models import ChainStates


def model_of_its_own() -> Any:
    with isolate_apps("testapp"):

        class Planning(StatorModel):
            __module__ = "testapp.models"
            state = StateField(ChainStates)
            text = models.CharField(max_length=100)

    return Planning


@pytest.fixture
def patient_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that has failed is not tried again while a test takes its time."""
    monkeypatch.setattr(EventStates.pending, "backoff", exponential(base=60, cap=300))


@pytest.fixture(params=[True, False], ids=["analysed", "not analysed"])
def table(request):
    """``table(number, columns…)…``: fill the table; call it without arguments when it is full."""
    model = model_of_its_own()
    with connection.schema_editor() as editor:
        editor.create_model(model)

    def fill(number=0, state="first", due=timedelta(0), lease=None, scattered=False):
        """Rows due around ``due`` from now, one every 0.1 ms, in the order in which they lie in
        the table, or ``scattered`` over it."""
        if not number:
            if request.param:
                with connection.cursor() as cursor:
                    cursor.execute("ANALYZE testapp_planning")
            return model
        with connection.cursor() as cursor:
            cursor.execute(
                """
                INSERT INTO testapp_planning
                    (text, state, state_changed, state_next, state_lease, state_claim)
                SELECT repeat('x', 50), %s, statement_timestamp(),
                    statement_timestamp() + %s - (%s - n) * interval '0.0001 second',
                    statement_timestamp() + %s, %s
                FROM generate_series(1, %s) AS n
                ORDER BY CASE WHEN %s THEN n * 7919 %% %s ELSE n END
                """,
                [
                    state,
                    due,
                    number,
                    lease,
                    None if lease is None else 4,
                    number,
                    scattered,
                    number,
                ],
            )
        return model

    return fill

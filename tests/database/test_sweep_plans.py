"""What a sweep costs the database: which index it walks, how much it reads, and what it writes.

PostgreSQL's plans are those of the very statements that are sent, on a table of many rows that is
new in each test, with or without statistics. What a statement did is taken back before the next.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, models
from django.db.models import Exists, OuterRef, Q
from django.test.utils import isolate_apps

from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.store import store_for
from django_fsmworker.store.sweeps import movable, next_window, rows_in
from tests.app.models import Delivery, Endpoint
from tests.database.plans import explained
from tests.database.rows import statements
from tests.database.sweeps import GONE, HELD, guard, window_of

pytestmark = [pytest.mark.django_db]

MANY = 50_000
SIZES = [100, 1000, 5000]

# Measured: 0.07 buffers a row to find a window, and as many to look at rows whose guard is about
# their own columns; 2 more where it looks into another table; 12 to 15 for a row that moves.
A_LOOK, A_FALSE_ROW, A_MOVED_ROW, FIXED = 0.2, 2.5, 18, 50


class PlanningStates(StateGraph):
    waiting = State(force_initial=True)
    other = State()
    ready = State()
    done = State()

    waiting.transitions_to(ready, when=Q(number=1))
    other.transitions_to(ready, when=Q(number=1))
    ready.transitions_to(other, when=Q(number=2))
    ready.transitions_to(done)

    @classmethod
    def check_ready(cls, row):
        return cls.done


WAITING, READY = PlanningStates.waiting, PlanningStates.ready


def model_of_its_own() -> Any:
    with isolate_apps("testapp"):

        class Sweeping(StatorModel):
            __module__ = "testapp.models"
            state = StateField(PlanningStates)
            number = models.IntegerField(default=0)
            endpoint = models.ForeignKey(Endpoint, models.CASCADE, related_name="+")
            text = models.CharField(max_length=100)

    return Sweeping


@pytest.fixture(params=[True, False], ids=["analysed", "not analysed"])
def table(request):
    """Many rows in ``waiting``, none of them with the number 1, behind and among many others."""
    model = model_of_its_own()
    with connection.schema_editor() as editor:
        editor.create_model(model)
    open_ = Endpoint.objects.create()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO testapp_sweeping (state, state_next, number, endpoint_id, text)
            SELECT CASE WHEN n <= %s THEN 'done'
                    ELSE (ARRAY['waiting', 'other', 'ready', 'done'])[1 + n %% 4] END,
                NULL, 0, %s, repeat('x', 50)
            FROM generate_series(1, %s) AS n
            """,
            [MANY, open_.pk, 2 * MANY],
        )
        if request.param:
            cursor.execute("ANALYZE testapp_sweeping")
    return model


CONDITIONS = {
    "own columns": lambda model: Q(number=1),
    "a related row": lambda model: Q(endpoint__paused=True),
    "Exists": lambda model: Exists(Endpoint.objects.filter(pk=OuterRef("endpoint"), paused=True)),
}


@pytest.mark.postgresql
class TestPostgreSQL:
    def test_a_window_is_found_in_its_own_index(self, table):
        rows = rows_in(table, WAITING, "default")

        for size in SIZES:
            plan = explained(next_window, store_for("default"), rows, None, size)

            assert {name.rsplit("_", 1)[-1] for name in plan.indexes} == {"swept"}, size
            assert plan.buffers <= FIXED + A_LOOK * size, size

    @pytest.mark.parametrize("condition", CONDITIONS)
    def test_rows_whose_guard_is_false_are_read_and_not_written(self, table, condition):
        when = CONDITIONS[condition](None)
        rows = rows_in(table, WAITING, "default")

        for size in SIZES:
            plan = self.swept(rows, guard(when, WAITING, READY), size)

            assert plan.root["Actual Rows"] == 0, size
            assert plan.wal == 0, size
            assert plan.buffers <= FIXED + A_FALSE_ROW * size, size

    def test_rows_that_move_are_reached_by_their_id(self, table):
        rows = rows_in(table, WAITING, "default")

        for size in SIZES:
            plan = self.swept(rows, guard(Q(endpoint__paused=False), WAITING, READY), size)

            assert plan.root["Actual Rows"] == size
            assert "Tid Scan" in plan.scans, size
            assert plan.buffers <= FIXED + A_MOVED_ROW * size, size

    def swept(self, rows, edge, size):
        """The plan for the first so many rows, which are found by their own index."""
        window = window_of(rows, None, size)
        assert window is not None
        plan = explained(store_for("default").sweep, movable(window.of(rows), edge), READY)
        assert {name.rsplit("_", 1)[-1] for name in plan.indexes if "sweeping" in name} == {"swept"}
        return plan


@pytest.mark.sqlite
class TestSQLite:
    @pytest.mark.parametrize("after", [None, 7])
    def test_a_sweep_goes_by_the_swept_index(self, after):
        Delivery.objects.bulk_create(Delivery(state="held") for _ in range(100))
        rows = rows_in(Delivery, HELD, "default")

        with statements() as sent:
            window = window_of(rows, after, 10)
            assert window is not None
            store_for("default").sweep(movable(window.of(rows), guard(Q(amount=1))), GONE)

        assert len(sent) == 2
        for sql, params in sent:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}", params)
                ((*_, step),) = cursor.fetchall()
            assert "_swept" in step

"""No name that a project gives its tables and columns is one that the engine's statements mind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from django_fsmworker import clock
from django_fsmworker.events.delivering import deliver
from django_fsmworker.graph import EventInfo, State, StateGraph
from django_fsmworker.models import (
    Event,
    FailureRecord,
    StateField,
    StateHistoryField,
    StatorModel,
)
from django_fsmworker.models.fields import (
    StateChangedField,
    StateClaimField,
    StateFailuresField,
    StateLeaseField,
    StateNextField,
)
from django_fsmworker.runner.preflight import inspect
from django_fsmworker.store import Ending, store_for
from django_fsmworker.store.bulk_rows import frozen_query, number_in
from django_fsmworker.testing import run_until_idle, step
from tests.database.rows import LEASE, PAST, claim, fence, fetch, lanes, moved, pks, put, stayed
from tests.runner.embedded import one_pass

pytestmark = pytest.mark.django_db(transaction=True)

# What the statements of any database call a part of their own. Each table has one list of columns.
TABLES = ["held", "row", "due", "outcome", "lane", "first", "free", "fence", "rows", "HELD"]
COLUMNS = [
    ["key", "value", "id", "outcome", "held", "row", "_rowid_", "lane", "moved"],
    ["id", "state", "token", "target", "moved", "delay", "timeout", "failures", "key_1"],
    ["token", "due", "amount", "since", "first", "rowid", "free", "fence", "type"],
    ["failures", "key_1", "due", "id", "value", "key", "json", "state", "parent"],
]


class NamedStates(StateGraph):
    new = State()
    asked = State()
    old = State(delete_after=60)

    new.transitions_to(asked)
    asked.transitions_to(old, when=models.Q(ready=True))
    new.on("ask", to=asked, when=models.Q(ready=False), action="get_ready")

    @classmethod
    def get_ready(cls, row: Any, event: EventInfo) -> None:
        row.ready = True

    @classmethod
    def check_new(cls, row: Any) -> Any:
        return cls.asked if row.ready else None


@contextmanager
def named(table: str, columns: list[str]) -> Iterator[Any]:
    """A model of such names, with a table."""
    called = iter(columns)
    with isolate_apps("testapp"):

        class Named(StatorModel):
            __module__ = "testapp.models"
            number = models.BigAutoField(primary_key=True, db_column=next(called))
            state = StateField(NamedStates, db_column=next(called))
            state_changed = StateChangedField(db_column=next(called))
            state_next = StateNextField(db_column=next(called))
            state_lease = StateLeaseField(db_column=next(called))
            state_claim = StateClaimField(db_column=next(called))
            state_failures = StateFailuresField(db_column=next(called))
            state_history = StateHistoryField(db_column=next(called))
            ready = models.BooleanField(default=False, db_column=next(called))

            class Meta:
                db_table = table

    with connection.schema_editor() as editor:
        editor.create_model(Named)
    try:
        yield Named
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Named)


def live(model: Any) -> None:
    """Everything that happens to rows, once."""
    store = store_for("default")
    inspect({model: store})
    rows = [model.objects.create() for _ in range(4)]
    keys = set(pks(rows))
    assert set(store.peek({model: lanes(model)})) == {(model, "new")}

    held = claim(model)
    assert set(pks(held)) == keys
    assert store.renew(model, [fence(row) for row in held], LEASE) == keys
    assert store.still_held(model, [fence(row) for row in held]) == keys
    assert store.hand_back(model, [fence(row) for row in held[:1]]) == {held[0].pk}
    assert fetch(held[0]).state_claim is None

    failed = stayed(held[1], ending=Ending.FAILED, failures=3)
    assert store.settle(model, [failed, moved(held[2], "asked")]) == {held[1].pk, held[2].pk}
    assert (fetch(held[1]).state, fetch(held[1]).state_failures) == ("new", 3)
    after = fetch(held[2])
    assert (after.state, [state for state, _ in after.state_history]) == (
        "asked",
        ["new", "asked"],
    )
    (kept,) = store.advance(model, [moved(held[3], "asked")], LEASE)
    assert (kept.state, kept.state_claim is None) == ("asked", False)
    assert store.hand_back(model, [fence(kept)]) == {kept.pk}

    put(rows[0], state_lease=PAST, state_claim=4)
    (taken,) = [row for row in claim(model) if row.pk == rows[0].pk]
    assert (taken.state_failures, taken.state_claim % 2) == (1, 1)
    store.hand_back(model, [fence(taken)])

    _by_its_own_verbs(model)
    _at_last(model, store)


def _by_its_own_verbs(model: Any) -> None:
    row = model.objects.create()
    assert [each.allowed for each in row.state_events()] == [True]
    assert not row.state_touch()
    assert row.state_send("ask") is NamedStates.asked
    assert fetch(row).ready
    row = model.objects.create()
    row.state_transition("asked")
    assert fetch(row).state == "asked"
    row.ready = True
    row.save()
    assert row.state_transition_check() is NamedStates.old
    assert model.state_transition_queryset(model.objects.filter(pk=row.pk), "new") == 1
    assert step(fetch(row)) is NamedStates.asked


def _at_last(model: Any, store: Any) -> None:
    model.objects.update(ready=True, state_failures=0, state_next=None)
    model.objects.update(state_lease=None, state_claim=None)
    assert store.rescue_stranded(model, 100) == model.objects.filter(state="new").count() > 0
    run_until_idle(model)
    assert set(model.objects.values_list("state", flat=True)) == {"old"}
    number = model.objects.count()
    model.objects.update(state_changed=clock.now() - timedelta(hours=1))
    assert model.state_do_deletes() == number
    assert not model.objects.exists()
    assert not FailureRecord.objects.exists()


@pytest.mark.parametrize(
    ("table", "columns"),
    [(table, COLUMNS[at % len(COLUMNS)]) for at, table in enumerate(TABLES)],
    ids=TABLES,
)
def test_table_and_columns_called_like_parts_of_a_statement(table: str, columns: list[str]) -> None:
    with named(table, columns) as model:
        live(model)


@pytest.mark.postgresql
@pytest.mark.parametrize("table", ["shipment", "held", "row"])
def test_a_table_in_another_schema(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA elsewhere")
    try:
        with named(f'"elsewhere"."{table}"', COLUMNS[0]) as model:
            live(model)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP SCHEMA elsewhere CASCADE")


@pytest.mark.mysql
@pytest.mark.parametrize("table", ["shipment", "held", "due"])
def test_a_table_named_with_its_database(table: str) -> None:
    here = connection.settings_dict["NAME"]
    with named(f"`{here}`.`{table}`", COLUMNS[0]) as model:
        live(model)


class KeyedStates(StateGraph):
    new = State(limit=2, limit_by="number")
    metered = State(rate="1000/s", rate_by="lane_key")
    fair = State(fair_by="due")
    ranked = State(priority="number")
    held = State(manual=True)
    done = State()

    new.transitions_to(metered)
    metered.transitions_to(fair)
    fair.transitions_to(ranked)
    ranked.transitions_to(held)
    held.transitions_to(done)
    held.on("go", to=done, when=models.Q(number__gte=0))

    @classmethod
    def move_on(cls, row: Any) -> Any:
        (target,) = row.state_graph.states[row.state].children
        return target

    check_new = check_metered = check_fair = check_ranked = move_on


@contextmanager
def keyed(table: str) -> Iterator[Any]:
    """A model with limits by columns, called like parts of statements, and like annotations."""
    with isolate_apps("testapp"):

        class Keyed(StatorModel):
            __module__ = "testapp.models"
            log_transitions = True
            state = StateField(KeyedStates)
            number = models.IntegerField()
            lane_key = models.IntegerField()
            due = models.IntegerField()
            fsm_now = models.IntegerField(default=0)
            fsm_why = models.IntegerField(default=0)
            fsm_row = models.IntegerField(default=0)
            fsm_key = models.IntegerField(default=0)
            fsm_is_free = models.IntegerField(default=0)
            row_text = models.IntegerField(default=0)
            digest = models.IntegerField(default=0)
            source = models.IntegerField(default=0)
            failure = models.IntegerField(default=0)  # type: ignore[assignment]

            class Meta:
                db_table = table

    with connection.schema_editor() as editor:
        editor.create_model(Keyed)
    try:
        yield Keyed
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Keyed)


@pytest.mark.parametrize("table", ["walked", "found", "other", "entries"])
def test_columns_of_keys_called_like_parts_of_a_statement(table: str) -> None:
    with keyed(table) as model:
        rows = [model.objects.create(number=n % 3, lane_key=n % 2, due=n) for n in range(6)]
        store = store_for("default")
        assert [key for key, _ in store.due_keys(model, "new", "number", None, 9)] == [0, 1, 2]
        assert [key for key, _ in store.due_keys(model, "new", "number", 1, 9)] == [2]

        for _ in range(4):
            one_pass(model)

        assert {fetch(row).state for row in rows} == {"held"}
        assert {row.state_log.count() for row in rows} == {4}


def test_columns_called_like_what_is_read_beside_a_row() -> None:
    with keyed("keyed") as model:
        rows = [model.objects.create(state="held", number=0, lane_key=0, due=0) for _ in range(4)]

        assert rows[0].state_explain().codes == ("manual",)
        assert [offer.allowed for offer in rows[0].state_events()] == [True]
        assert rows[0].state_send("go") is KeyedStates.done
        model.objects.defer("state").get(pk=rows[1].pk).state_move("done", running="refuse")
        assert model.objects.filter(state="held").state_submit("go") == 2
        query = frozen_query(model.objects.all())
        assert query is not None
        assert number_in("default", query) == 4

        deliver(
            store_for("default"),
            model,
            claim(Event),
            "here",
            lambda row, event, take: take(row, event),
        )

        assert {fetch(row).state for row in rows} == {"done"}

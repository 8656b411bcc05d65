"""The end of a row's life, as code that writes rows meets it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import F

from django_fsmworker import clock
from django_fsmworker.models.entering import within_life
from django_fsmworker.store import store_for
from django_fsmworker.store.tables import table_for
from django_fsmworker.testing import assert_path, run_until_idle, travel
from tests.app.models import Stay, Trouble
from tests.database.rows import claimed, fetch, moved, put, statements, stayed

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)
LIFE = 3 * DAY


def stay(state: str = "new", **fields: Any) -> Stay:
    return Stay.objects.create(state=state, **fields)


def ending(state: str, after: timedelta) -> Stay:
    """A row in ``state`` whose life ends so long after now."""
    return stay(state, state_life_ends=clock.now() + after)


def without_end(state: str) -> Any:
    """A row as an older build has created it."""
    row = stay(state)
    first_due = Stay.state_graph.get(state).first_due
    due = None if first_due is None else timedelta(seconds=first_due)
    put(row, state_life_ends=None, state_next=due)
    return fetch(row)


def is_due_after(row: Any, time: timedelta) -> bool:
    """Whether the row is due so long after it entered its state, or nearly so."""
    difference: timedelta = row.state_next - row.state_changed - time
    return abs(difference) < timedelta(seconds=1)


class TestNewRows:
    def test_live_as_long_as_the_graph_says(self) -> None:
        row = stay()

        assert fetch(row).state_life_ends == fetch(row).state_changed + LIFE

    @pytest.mark.parametrize("state", ["held", "swept"])
    def test_in_a_state_without_a_check_are_due_then(self, state: str) -> None:
        row = fetch(stay(state))

        assert row.state_next == row.state_life_ends == row.state_changed + LIFE

    def test_are_due_before_if_there_is_something_to_do(self) -> None:
        row = fetch(stay("timed"))

        assert row.state_next - row.state_changed < LIFE

    @pytest.mark.parametrize("state", ["leaving", "done"])
    def test_have_it_where_it_does_not_count(self, state: str) -> None:
        """Somebody may put them back."""
        row = fetch(stay(state))

        assert row.state_life_ends == row.state_changed + LIFE
        assert row.state_next != row.state_life_ends

    def test_of_bulk_create(self) -> None:
        Stay.objects.bulk_create(Stay(state="held") for _ in range(3))

        for row in Stay.objects.all():
            assert row.state_next == row.state_life_ends == row.state_changed + LIFE

    def test_may_have_another_one(self) -> None:
        ends = datetime(2101, 1, 1, tzinfo=UTC)
        row = fetch(stay("held", state_life_ends=ends))

        assert (row.state_life_ends, row.state_next) == (ends, ends)

    def test_that_are_copies_begin_anew(self) -> None:
        row = fetch(ending("held", timedelta(hours=1)))

        row.pk = None
        row._state.adding = True
        row.save()

        assert fetch(row).state_life_ends - clock.now() > 2 * DAY
        assert fetch(row).state_next == fetch(row).state_life_ends


class TestMoves:
    """The due time of a row is never after the end of its life."""

    def test_to_a_manual_state(self) -> None:
        row = stay()

        row.state_move("held")

        assert row.state_next == fetch(row).state_next == row.state_life_ends

    def test_to_a_state_that_begins_after_the_end(self) -> None:
        row = ending("new", timedelta(seconds=30))

        row.state_move("guarded")

        assert fetch(row).state_next == row.state_life_ends, "and not after start_after"

    def test_to_a_state_that_begins_before_the_end(self) -> None:
        row = stay()

        row.state_move("guarded")

        assert is_due_after(fetch(row), timedelta(seconds=60))

    def test_to_a_terminal_state(self) -> None:
        row = stay()

        row.state_move("done")

        assert fetch(row).state_next is None

    def test_with_another_end(self) -> None:
        row, ends = stay(), clock.now() + 9 * DAY

        row.state_move("held", set={"state_life_ends": ends})

        assert fetch(row).state_life_ends == fetch(row).state_next == ends

    def test_by_a_save(self) -> None:
        row = stay()

        row.state = "held"
        row.save()

        assert fetch(row).state_next == row.state_life_ends

    def test_back_to_life_by_a_save_with_another_end(self) -> None:
        row, ends = ending("leaving", -DAY), clock.now() + 9 * DAY

        row.state = "held"
        row.state_life_ends = ends
        row.save()

        assert fetch(row).state == "held"
        assert fetch(row).state_life_ends == fetch(row).state_next == ends

    @pytest.mark.parametrize("number", [1, 3])
    def test_of_many(self, number: int) -> None:
        for _ in range(number):
            stay()

        Stay.state_transition_queryset(Stay.objects.all(), "timed")

        rows = list(Stay.objects.all())
        assert len(rows) == number
        assert all(is_due_after(row, 2 * DAY) for row in rows)
        Stay.state_transition_queryset(Stay.objects.all(), "held")
        assert all(row.state_next == row.state_life_ends for row in Stay.objects.all())

    def test_by_an_event(self) -> None:
        row = ending("held", DAY)

        row.state_send("hold")

        assert fetch(row).state == "timed"
        assert fetch(row).state_next == row.state_life_ends

    def test_by_a_durable_event(self) -> None:
        row = ending("held", DAY)

        row.state_submit("hold")
        run_until_idle()

        assert fetch(row).state == "timed"
        assert fetch(row).state_next == row.state_life_ends

    def test_a_row_without_an_end(self) -> None:
        row = without_end("new")

        row.state_move("guarded")
        assert is_due_after(fetch(row), timedelta(seconds=60))
        row.state_transition("held")

        assert fetch(row).state_next is None


class TestSettling:
    """Each database has its own SQL for it."""

    @pytest.mark.parametrize(
        ("target", "due"), [("new", None), ("held", DAY), ("timed", DAY), ("done", None)]
    )
    def test_a_move(self, target: str, due: timedelta | None) -> None:
        row = claimed(Stay, state_life_ends=clock.now() + DAY)

        store_for("default").settle(Stay, [moved(row, target)])

        found = fetch(row)
        assert found.state == target
        if due is not None:
            assert found.state_next == row.state_life_ends
        else:
            assert found.state_next == (found.state_changed if target == "new" else None)

    @pytest.mark.parametrize("delay", [None, 2 * DAY.total_seconds()])
    def test_a_row_that_stays(self, delay: float | None) -> None:
        row = claimed(Stay, state_life_ends=clock.now() + DAY)

        store_for("default").settle(Stay, [stayed(row, delay)])

        assert fetch(row).state_next == row.state_life_ends

    def test_a_row_whose_next_try_is_before(self) -> None:
        row = claimed(Stay)

        store_for("default").settle(Stay, [stayed(row, 60.0)])

        assert fetch(row).state_next - clock.now() < timedelta(seconds=61)

    def test_rows_without_an_end(self) -> None:
        rows = [claimed(Stay), claimed(Stay)]
        Stay.objects.update(state_life_ends=None)

        outcomes = [moved(rows[0], "held"), stayed(rows[1], 60.0)]
        store_for("default").settle(Stay, outcomes)

        assert fetch(rows[0]).state_next is None
        assert fetch(rows[1]).state_next - clock.now() < timedelta(seconds=61)

    def test_rows_of_one_batch_with_different_ends(self) -> None:
        rows = [claimed(Stay, state_life_ends=clock.now() + n * DAY) for n in (1, 2)]

        store_for("default").settle(Stay, [moved(row, "held") for row in rows])

        assert [fetch(row).state_next for row in rows] == [row.state_life_ends for row in rows]

    def test_a_row_that_goes_on(self) -> None:
        row = claimed(Stay, state_life_ends=clock.now() + timedelta(seconds=20))

        (kept,) = store_for("default").advance(Stay, [moved(row, "guarded")], 30.0)

        assert kept.state_next == row.state_life_ends


class TestAnotherEnd:
    def test_that_is_sooner_makes_the_row_due_by_then(self) -> None:
        row, ends = fetch(stay("held")), clock.now() + DAY

        row.state_life_ends = ends
        row.save()

        assert (row.state_life_ends, row.state_next) == (ends, ends)
        assert fetch(row).state_next == ends

    def test_that_is_later_holds(self) -> None:
        row = fetch(stay("held"))
        row.state_life_ends = clock.now() + 9 * DAY
        row.save()

        with travel(4 * DAY) as further:
            run_until_idle(Stay)
            assert fetch(row).state == "held"
            assert fetch(row).state_next == row.state_life_ends
            further(6 * DAY)
            run_until_idle(Stay)

        assert_path(row, ["held", "leaving"])

    def test_none_at_all(self) -> None:
        row = fetch(stay("held"))
        row.state_life_ends = None
        row.save()

        with travel(4 * DAY):
            run_until_idle(Stay)

        assert fetch(row).state == "held"
        assert fetch(row).state_next is None

    def test_for_rows_that_had_none(self) -> None:
        begun = clock.now() - DAY
        rows = [without_end(state) for state in ("held", "new", "timed", "done")]
        dues = {row.state: row.state_next for row in rows}
        Stay.objects.update(booked=begun)

        Stay.objects.filter(state_life_ends=None).update(state_life_ends=F("booked") + LIFE)

        found: dict[str, Any] = {row.state: row for row in Stay.objects.all()}
        assert {row.state_life_ends for row in found.values()} == {begun + LIFE}
        assert found["held"].state_next == begun + LIFE
        assert found["new"].state_next == dues["new"]
        assert abs(found["timed"].state_next - (begun + LIFE)) < timedelta(minutes=1)
        assert found["done"].state_next is None

    def test_that_is_unknown_changes_nothing(self) -> None:
        row = without_end("new")

        Stay.objects.update(state_life_ends=F("booked") + LIFE)

        assert fetch(row).state_next == row.state_next
        assert fetch(row).state_life_ends is None

    def test_not_by_bulk_update(self) -> None:
        row = stay("held")
        row.state_life_ends = clock.now()

        with pytest.raises(ValueError) as refused:
            Stay.objects.bulk_update([row], ["state_life_ends"])

        assert str(refused.value) == (
            "bulk_update() cannot write state_life_ends: the rows would not be due by then. Use "
            "update() or save() instead."
        )

    def test_of_a_parked_row(self) -> None:
        row = stay()
        row.state_park("not now")

        Stay.objects.update(state_life_ends=clock.now())

        assert fetch(row).state_next is None

    def test_of_a_row_that_failed_for_good(self) -> None:
        row, ends = stay(), clock.now() + DAY
        put(row, state_failures=3, state_next=None)

        Stay.objects.update(state_life_ends=ends)

        assert fetch(row).state_next == ends


class TestVerbs:
    def test_a_row_in_a_manual_state_can_be_parked(self) -> None:
        row = stay("held")

        assert row.state_park("not now")
        assert fetch(row).state_next is None
        assert row.state_unpark()

        assert fetch(row).state_next == row.state_life_ends

    def test_unparking_a_row_with_a_timeout(self) -> None:
        row = ending("timed", DAY)
        row.state_park("not now")

        row.state_unpark()

        assert fetch(row).state_next == row.state_life_ends

    def test_a_cancelled_check_is_not_called_after_the_end(self) -> None:
        row = claimed(Stay, state_life_ends=clock.now() + timedelta(seconds=60))

        Stay.objects.cancel_running()

        assert fetch(row).state_next == row.state_life_ends

    def test_it_is_explained(self) -> None:
        why = stay("held").state_explain()

        assert "lifetime" in why.codes
        (reason,) = [each for each in why.reasons if each.code == "lifetime"]
        assert reason.sentence.startswith("Nothing is due before its life ends: it goes to leaving")
        assert reason.evidence["target"] == "leaving"

    def test_that_of_a_row_that_failed_for_good_is_explained(self) -> None:
        row = stay()
        put(row, state_failures=3, state_next=None)
        Stay.objects.update(state_life_ends=clock.now() + DAY)

        (reason,) = [each for each in row.state_explain().reasons if each.code == "lifetime"]

        assert reason.sentence.endswith(", after it has failed 3 times.")
        assert reason.remedy == "'manage.py stator retry' makes it due now."

    def test_a_check_of_one_row(self) -> None:
        row = ending("new", -timedelta(seconds=1))

        assert str(fetch(row).state_transition_check()) == "leaving"


class TestModelsWithoutOne:
    """They pay nothing."""

    def test_what_the_orm_writes_is_the_same(self) -> None:
        due = object()

        assert all(
            within_life(Trouble, state, due) is due for state in Trouble.state_graph.states.values()
        )

    def test_no_statement_knows_of_it(self) -> None:
        row = claimed(Trouble)
        with statements() as sent:
            store_for("default").settle(Trouble, [moved(row, "waiting")])
            fetch(row).state_move("done")
            Trouble.objects.create()

        assert sent
        assert not any("life" in sql for sql, _ in sent)

    def test_the_engine_s_sql_is_the_same_but_for_the_term(self) -> None:
        table = table_for(Trouble, "default")

        assert table.life_ends("new") is None
        assert table.life_ends_in("target") is None
        assert table_for(Stay, "default").life_ends("done") is None
        assert table_for(Stay, "default").life_ends("new") is not None

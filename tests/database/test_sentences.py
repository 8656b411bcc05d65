"""Where nothing would happen, or the wrong thing, there is a sentence that says so."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.db import connection, connections, models
from django.test.utils import isolate_apps

from django_fsmworker.exceptions import ConfigurationError, GraphError, UnknownState
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.runner import StatorRunner
from django_fsmworker.store import store_for
from django_fsmworker.testing import run_until_idle
from testapp.models import Order, OrderStates
from tests.app.models import Noop, NoopStates


def body(**members: Any) -> dict[str, Any]:
    new, done, failed = State(max_attempts=3), State(), State()
    new.transitions_to(done)
    new.fails_to(failed)

    def check_new(cls: Any, row: Any) -> Any:
        return cls.done

    states = {"new": new, "done": done, "failed": failed}
    return {**states, "check_new": classmethod(check_new), **members}


def refused(**members: Any) -> str:
    with pytest.raises(GraphError) as caught:
        type("TriedStates", (StateGraph,), body(**members))
    return str(caught.value)


class TestGraphs:
    def test_a_failure_state_without_attempts(self) -> None:
        new, failed = State(), State()
        new.fails_to(failed)

        assert refused(new=new, failed=failed, done=_done(new)) == (
            "TriedStates.new: fails_to(failed) comes after max_attempts, and without those a "
            "failing check is retried for ever; give the state max_attempts, or remove fails_to."
        )

    @pytest.mark.parametrize("name", ["check_nw", "check_paid"])
    def test_a_check_without_its_state(self, name: str) -> None:
        assert refused(**{name: classmethod(lambda cls, row: None)}) == (
            f"TriedStates: it has the check {name}, but no state {name[6:]}; correct the name, or, "
            f"if {name} is called by other checks, let it begin with another word than check_."
        )

    def test_a_check_of_a_mixin_without_its_state(self) -> None:
        mixin = type("Mixin", (), {"check_paid": classmethod(lambda cls, row: None)})

        with pytest.raises(GraphError, match="it has the check check_paid, but no state paid"):
            type("TriedStates", (StateGraph, mixin), body())

    def test_a_check_of_another_name_that_a_state_gives(self) -> None:
        new = State(transition_function="check_it")
        new.transitions_to(done := State())
        members = body(new=new, done=done, check_it=classmethod(lambda cls, row: None))
        del members["check_new"], members["failed"]

        type("TriedStates", (StateGraph,), members)


def _done(new: State) -> State:
    new.transitions_to(done := State())
    return done


@pytest.mark.django_db
class TestQuerysets:
    @pytest.mark.parametrize(
        "word",
        [
            lambda: Order.objects.in_state("typo"),
            lambda: Order.objects.in_state("new", "typo"),
            lambda: Order.objects.due().in_state(NoopStates.done),
            lambda: Order.objects.update(state="typo"),
            lambda: Order.objects.filter(pk=1).update(state="New"),
            lambda: models.QuerySet(Order).update(state="typo"),
            lambda: Order._base_manager.filter(pk=1).update(state="typo"),
            lambda: models.QuerySet(Order).none().update(state="typo"),
        ],
    )
    def test_names_that_the_graph_does_not_declare(self, word: Any) -> None:
        with pytest.raises(UnknownState):
            word()

    def test_a_declared_one_is_written(self) -> None:
        row = Order.objects.create()

        assert Order.objects.update(state=OrderStates.failed, payment_id="7") == 1

        row.refresh_from_db()
        assert (row.state, row.payment_id) == ("failed", "7")

    def test_rows_in_states_of_another_build_can_be_found(self) -> None:
        assert not Order.objects.filter(state="of another build")

    def test_run_until_idle_with_a_row(self) -> None:
        row = Noop.objects.create()

        with pytest.raises(TypeError) as caught:
            run_until_idle(row)

        assert str(caught.value) == (
            f"run_until_idle() takes models, and Noop {row.pk} is a row; give its model, or use "
            f"step(row)."
        )

    @pytest.mark.parametrize("run", [run_until_idle, lambda model: StatorRunner([model])])
    @pytest.mark.parametrize("given", [Session, "testapp.Order", OrderStates, StatorModel])
    def test_what_is_no_model_with_a_life(self, run: Any, given: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            run(given)

        assert str(caught.value) == (
            f"{given!r} is not a model with a state graph; give the class of a StatorModel that "
            f"declares state = StateField(…)."
        )


class TestFields:
    @pytest.mark.parametrize("given", ["OrderStates", OrderStates()])
    def test_what_is_no_graph(self, given: Any) -> None:
        with pytest.raises(TypeError) as caught:
            StateField(given)

        expected = f"StateField takes a StateGraph, the class itself, not {given!r}."
        assert str(caught.value) == expected

    @pytest.mark.parametrize("name", ["default", "db_default", "choices"])
    @isolate_apps("testapp")
    def test_options_that_the_graph_decides(self, name: str) -> None:
        with pytest.raises(TypeError) as caught:
            StateField(OrderStates, **{name: "paid"})

        assert str(caught.value) == (
            f"StateField takes no {name}, because OrderStates has it: new rows begin in new. Take "
            f"{name} out, or mark another state with force_initial=True."
        )

    def test_null(self) -> None:
        with pytest.raises(TypeError) as caught:
            StateField(OrderStates, null=True)  # type: ignore[misc]

        assert str(caught.value) == (
            "StateField takes no null=True, because a row without a state would have no life. Take "
            "it out, and give OrderStates a manual state for rows that rest."
        )


@pytest.mark.sqlite
@pytest.mark.django_db
class TestTimeZones:
    def test_a_runner_does_not_start_on_local_times(self, monkeypatch: pytest.MonkeyPatch) -> None:
        own = vars(connections["default"])
        monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", "Europe/Berlin")
        for cached in ("timezone", "timezone_name"):
            own.pop(cached, None)
        try:
            assert list(store_for("default").refusals(Order)) == [
                "The database 'default' has the TIME_ZONE 'Europe/Berlin', so its columns hold "
                "local times, which are ambiguous for an hour a year. Take it out of "
                "DATABASES['default']."
            ]
        finally:
            for cached in ("timezone", "timezone_name"):
                own.pop(cached, None)

    def test_utc_is_the_same_as_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connection.settings_dict, "TIME_ZONE", "UTC")

        assert list(store_for("default").refusals(Order)) == []

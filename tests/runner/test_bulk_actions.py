"""Bulk actions in a runner: whoever runs the rows of a model works off what is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.bulk.starting import start, stop
from django_fsmworker.management.labels import chosen_models
from django_fsmworker.models import BulkAction, Worker
from django_fsmworker.models.bulk_action import bulk_actions_of, offer_bulk_actions
from django_fsmworker.models.companions import is_companion, target_of
from django_fsmworker.models.event import events_of
from django_fsmworker.runner import StatorRunner, preflight
from tests.app.models import Account, Chain, Expiring, Loose, Noop, Trouble
from tests.runner.embedded import Embedded, one_pass

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def offered() -> None:
    offer_bulk_actions(Account)
    offer_bulk_actions(Expiring)


def the_action() -> BulkAction:
    return BulkAction.objects.get()


class TestWhoRunsThem:
    def test_who_runs_the_rows(self) -> None:
        Account.objects.create()
        start("force", Account.objects.all(), "frozen")

        one_pass(Expiring)
        assert the_action().state == "pending"

        one_pass(Account)  # it begins
        one_pass(Account)
        assert (the_action().state, the_action().done) == ("done", 1)

    def test_not_those_of_a_model_for_which_nothing_offers_any(self) -> None:
        assert bulk_actions_of(Loose) not in preflight.models_to_run([Loose])

    def test_a_model_is_none_of_them_for_a_column_of_its_own(self) -> None:
        own = type("Own", (), {"state_target": None, "state_lane_key": None})

        assert not is_companion(own)
        assert target_of(own) is own

    def test_not_those_of_an_excluded_model(self) -> None:
        chosen = preflight.models_to_run(chosen_models([], ["tests.Account"], None, to_run=True))

        assert bulk_actions_of(Expiring) in chosen
        assert bulk_actions_of(Account) not in chosen

    def test_all_of_them_by_default(self) -> None:
        assert {bulk_actions_of(Account), events_of(Account)} <= set(StatorRunner().stores)

    def test_the_registry_says_who_does(
        self, start_runner: Callable[..., Embedded], eventually: Callable[..., Any]
    ) -> None:
        start_runner(Account)

        eventually(lambda: Worker.objects.exists())

        served = Worker.objects.get().served
        assert sorted(served) == ["django_fsmworker.BulkAction[tests.Account]", "tests.Account"]

    def test_it_says_that_nobody_does(self) -> None:
        start("force", Account.objects.all(), "frozen")

        reasons = {reason.code: reason for reason in the_action().state_explain().reasons}

        assert reasons["unserved"].sentence == "No living worker runs rows of tests.Account."
        assert "runstator tests.Account" in reasons["unserved"].remedy


def test_it_is_heard_of_at_once_and_stopped(
    start_runner: Callable[..., Embedded], eventually: Callable[..., Any], monkeypatch: Any
) -> None:
    monkeypatch.setattr("django_fsmworker.bulk.running.BATCH", 1)
    Account.objects.bulk_create(Account() for _ in range(3000))
    start_runner(Account)
    start("send", Account.objects.all(), "nothing")

    eventually(lambda: the_action().done > 10)
    stop(the_action())
    eventually(lambda: the_action().state_claim is None)

    stopped = the_action()
    assert stopped.state == "stopped"
    assert 10 < stopped.done < 3000
    assert stopped.cursor == str(
        Account.objects.order_by("pk").values_list("pk", flat=True)[stopped.done - 1]
    )


def test_a_row_that_the_database_refuses_is_left_out(
    start_runner: Callable[..., Embedded], eventually: Callable[..., Any], caplog: Any
) -> None:
    offer_bulk_actions(Trouble)
    rows = [Trouble.objects.create(value=value).pk for value in (1, 13, 2)]
    Trouble.objects.update(state_next=clock.now() + timedelta(days=1))
    start("force", Trouble.objects.all(), "done")

    start_runner(Trouble)

    eventually(lambda: the_action().state == "done")
    assert (the_action().done, the_action().skipped) == (2, {"refused": [1, [str(rows[1])]]})
    assert Trouble.objects.filter(state="done").count() == 2
    assert f"leaves out tests.Trouble {rows[1]}" in caplog.text


@pytest.mark.postgresql
@pytest.mark.mysql
def test_a_row_that_stays_locked_is_left_out(
    start_runner: Callable[..., Embedded],
    eventually: Callable[..., Any],
    locked: Callable[[Any], Any],
) -> None:
    row, other = Account.objects.create(), Account.objects.create()
    start("force", Account.objects.all(), "frozen")

    with locked(row):
        start_runner(Account, deadline=1)
        eventually(lambda: the_action().state == "done", 30)

    assert (the_action().done, the_action().skipped) == (1, {"locked": [1, [str(row.pk)]]})
    other.refresh_from_db()
    assert other.state == "frozen"


def test_rows_are_run_beside_it(
    start_runner: Callable[..., Embedded], eventually: Callable[..., Any]
) -> None:
    offer_bulk_actions(Chain)
    Noop.objects.bulk_create(Noop() for _ in range(5))
    rows: QuerySet[Chain] = QuerySet(Chain)
    rows.bulk_create(Chain(state="last", state_next=None, logged=False) for _ in range(1000))
    start("restart", Chain.objects.all(), "third")

    start_runner(Chain, Noop)

    eventually(lambda: the_action().state == "done")
    eventually(lambda: Chain.objects.filter(state="last").count() == 1000)
    assert the_action().done == 1000
    assert {len(row.state_history) for row in rows.all()} == {3}
    eventually(lambda: not Noop.objects.filter(state="new").exists())

"""``stator workers``: what it prints, whom it tells, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError

from django_fsmworker.models import Worker
from tests.app.models import Noop
from tests.workers_on_record import on_record

pytestmark = [pytest.mark.once, pytest.mark.django_db]

Stator = Callable[..., Any]


def test_list_tells_who_there_is(stator: Stator) -> None:
    on_record("one")
    on_record("two", silent=31, host="there")

    listed = stator("workers", "list", "--json").data
    assert stator("workers", "--json", "list").data == listed

    assert [(each["id"], each["state"], each["host"]) for each in listed] == [
        ("one", "ready", "here"),
        ("two", "lost", "there"),
    ]
    assert set(listed[0]) == {"id", "name", "state", "host", "pid", "heartbeat", "in_flight"}
    assert stator("workers", "list", "--living").output.split()[:7] == [
        "id", "state", "host", "pid", "heartbeat", "in", "flight",
    ]  # fmt: skip
    assert "two" not in stator("workers", "list", "--living").output
    assert stator("workers", "list", "--name=other").lines == ["No worker is on record."]


def test_show_has_the_record(stator: Stator) -> None:
    on_record("one", options={"concurrency": 3})

    lines = stator("workers", "show", "one").lines

    assert "state: ready" in lines
    assert "options: concurrency=3" in lines
    assert lines[-1].startswith("running: tests.Noop 5 in new since ")
    with pytest.raises(CommandError, match="^There is no record of a worker 'two'; 'manage.py"):
        stator("workers", "show", "two")


def test_stats_sum_up_by_name(stator: Stator) -> None:
    on_record("one")
    on_record("two", status="stopped", in_flight=0)

    assert stator("workers", "stats").lines == ["shop: ready=1 moved=6 in_flight=2 stopped=1"]


def test_health_is_about_models_that_nobody_runs(
    stator: Stator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "django_fsmworker.management.stator_commands.workers.stator_models", lambda: [Noop]
    )
    unserved = stator("workers", "health")
    on_record("one", status="suspended")
    suspended = stator("workers", "health")
    on_record("two")
    served = stator("workers", "health")

    assert (unserved.code, unserved.lines) == (3, ["No worker runs tests.Noop."])
    assert suspended.code == 3
    assert (served.code, served.lines) == (0, ["Every model has a worker that runs it."])


def test_health_may_be_about_some_models(stator: Stator) -> None:
    on_record("one", served={"tests.Noop": ""})

    assert stator("workers", "health", "tests.noop").code == 0
    assert stator("workers", "health", "tests.Noop", "tests.Trouble").lines == [
        "No worker runs tests.Trouble."
    ]


@pytest.mark.parametrize(
    ("order", "before", "wanted"),
    [
        ("suspend", "ready", "suspended"),
        ("resume", "suspended", "ready"),
        ("stop", "ready", "stopped"),
    ],
)
def test_an_order_is_written_for_those_that_are_named(
    order: str, before: str, wanted: str, stator: Stator
) -> None:
    on_record("one", wanted=before)
    on_record("two", wanted=before)

    ended = stator("workers", order, "one", "--by=ops", "--reason=a flood")

    assert (ended.code, ended.lines) == (0, [f"The worker one is told to {order}."])
    worker = Worker.objects.get(pk="one")
    assert (worker.wanted, worker.ordered_by, worker.order_reason) == (wanted, "ops", "a flood")
    assert Worker.objects.get(pk="two").wanted == before


def test_orders_may_be_for_a_host_or_for_all(stator: Stator) -> None:
    on_record("one")
    on_record("two", host="there")

    assert stator("workers", "--json", "suspend", "--host=there").data == {"told": ["two"]}
    assert stator("workers", "--json", "stop", "--all").data == {"told": ["one", "two"]}


def test_orders_that_nobody_takes_end_with_3(stator: Stator) -> None:
    on_record("one", silent=31)

    ended = stator("workers", "stop", "one")

    assert (ended.code, ended.lines) == (
        3,
        ["No worker was told: none of those takes the order."],
    )
    with pytest.raises(CommandError, match="^Name workers by their ids, or by --name, --host or"):
        stator("workers", "stop")


def test_without_any_that_is_said(stator: Stator) -> None:
    for action in ("list", "stats"):
        assert stator("workers", action).lines == ["No worker is on record."]


def test_purge_deletes_what_is_old(stator: Stator) -> None:
    on_record("old", silent=3600)
    on_record("one")

    assert stator("workers", "purge").lines == ["0 records purged."]
    assert stator("workers", "purge", "--older-than=30m").lines == ["1 record purged."]
    assert Worker.objects.get().pk == "one"
    with pytest.raises(CommandError, match="'soon' is not an age such as 90s, 30m, 12h or 7d"):
        stator("workers", "purge", "--older-than=soon")

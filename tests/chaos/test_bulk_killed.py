"""Bulk actions whose runners are killed, stopped and resumed: they are done to each row once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Count, QuerySet
from django.test import Client

from django_fsmworker import clock
from django_fsmworker.bulk.starting import resume, start, stop
from django_fsmworker.models import BulkAction, Event
from tests.app.models import Account, BasicModel
from tests.runner.processes import Process

pytestmark = [pytest.mark.django_db(transaction=True)]

OPTIONS = ("--lease=3", "--poll-interval=0.2", "--connect-timeout=60")
SLOW = {
    "DJANGO_SETTINGS_MODULE": "tests.chaos.bulk_settings",
    # What dies in a runner's hands is delivered alone afterwards, which takes the longest.
    "FSMWORKER_MAX_IN_FLIGHT": "20",
}
# It is the admin that lets runners look for bulk actions.
WITH_ADMIN = {"DJANGO_SETTINGS_MODULE": "tests.app.settings"}


def the_action() -> BulkAction:
    return BulkAction.objects.get()


@pytest.mark.timeout(300)
def test_each_row_gets_one_event(
    start_process: Callable[..., Process], eventually: Callable[..., Any]
) -> None:
    number = 300
    Account.objects.bulk_create(Account() for _ in range(number))
    start("send", Account.objects.all(), "nothing")

    process = start_process("runstator", "tests.Account", *OPTIONS, **SLOW)
    eventually(lambda: the_action().done, 60)
    process.send(signal.SIGKILL)
    process.wait()
    done = the_action().done
    assert 0 < done < number, "it was over before the kill"
    start_process("runstator", "tests.Account", *OPTIONS, **SLOW)
    eventually(lambda: the_action().done > done, 60)
    stop(the_action())
    eventually(lambda: not BulkAction.objects.running().exists(), 60)
    assert the_action().done < number, "it was over before it was stopped"
    resume(the_action())
    eventually(lambda: the_action().state == "done", 120)

    assert (the_action().done, the_action().matched, the_action().left_out) == (number, number, 0)
    events: QuerySet[Event] = QuerySet(Event)
    per_row = events.values_list("row").annotate(number=Count("pk"))
    assert len(per_row) == number
    assert {found for _, found in per_row} == {1}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_million_rows_are_retried_by_one_button(
    start_process: Callable[..., Process],
    eventually: Callable[..., Any],
    admin_client: Client,
    settings: Any,
    capsys: pytest.CaptureFixture[str],
    vendor: str,
) -> None:
    settings.ROOT_URLCONF, settings.ALLOWED_HOSTS = "tests.admin.sites", ["testserver"]
    number = 1_000_000
    later = clock.now() + timedelta(days=365)
    for _ in range(number // 10_000):
        BasicModel.objects.bulk_create(BasicModel(state_next=later) for _ in range(10_000))
    url = "/lives/tests/basicmodel/?state=new"
    posted = {"action": "state_retry_rows", "select_across": "1", "confirmed": "1"}
    posted["_selected_action"] = str(BasicModel.objects.earliest("pk").pk)
    # The first request imports and connects.
    admin_client.get(url)

    began = time.perf_counter()
    asked = admin_client.post(url, {**posted, "index": "0", "confirmed": []})
    seen = time.perf_counter() - began
    began = time.perf_counter()
    answer = admin_client.post(url, posted)
    took = time.perf_counter() - began
    assert "of the first 10000" in asked.text
    assert answer.status_code == 302
    runstator = ("runstator", "tests.BasicModel", "--lease=5")
    process = start_process(*runstator, **WITH_ADMIN)
    began = time.monotonic()
    eventually(lambda: the_action().done > number // 10, 600, every=0.1)
    process.send(signal.SIGKILL)
    process.wait()
    start_process(*runstator, **WITH_ADMIN)
    at_kill = the_action().done
    eventually(lambda: the_action().done > at_kill, 600, every=0.1)
    stop(the_action())
    eventually(lambda: not BulkAction.objects.running().exists(), 60)
    resume(the_action())
    eventually(lambda: the_action().state == "done", 1200, every=0.5)

    action = the_action()
    with capsys.disabled():
        print(
            f"\nbulk on {vendor}: {number} rows, preview in {seen * 1000:.0f} ms, "
            f"answered in {took * 1000:.0f} ms, done in "
            f"{time.monotonic() - began:.0f} s; {action.done} written, {action.skipped}"
        )
    assert (action.matched, action.done, action.left_out) == (number, number, 0)
    assert max(seen, took) < 0.5

"""``manage.py stator events``: what is listed and shown, cancelled, and tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError

from django_fsmworker.events import submit_event
from django_fsmworker.models import Event
from django_fsmworker.testing import run_until_idle
from tests.app.models import Account, Purchase
from tests.app.models.accounts import ACTIONS
from tests.command.conftest import Ended

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

Stator = Callable[..., Ended]


@pytest.fixture
def row() -> Account:
    return Account.objects.create()


@pytest.fixture
def failed(row: Account, monkeypatch: pytest.MonkeyPatch) -> int:
    """An event that has failed for good."""

    def fail(row: Any, event: Any) -> None:
        raise ValueError("the moon\nis in the wrong house")

    monkeypatch.setitem(ACTIONS, "fail", fail)
    key = submit_event(row, "call", {"mode": "fail"}, max_attempts=1)
    run_until_idle(Account, raise_failures=False)
    return key


def ids(ended: Ended) -> list[int]:
    return [each["id"] for each in ended.data]


class TestList:
    def test_what_waits_the_next_first(self, row: Account, stator: Stator) -> None:
        later = submit_event(row, "book", {"number": 1}, delay=60)
        now = submit_event(row, "melt", by="importer")

        ended = stator("events", "list", "--json")

        assert ids(ended) == [now, later]
        assert ended.data[0] == {
            "id": now,
            "model": "tests.Account",
            "row": str(row.pk),
            "trigger": "melt",
            "state": "pending",
            "fires_at": ended.data[0]["fires_at"],
            "failures": 0,
            "reason": "",
        }

    def test_as_a_table(self, row: Account, stator: Stator) -> None:
        key = submit_event(row, "melt")

        head, line = stator("events", "list").lines

        assert head.split()[:5] == ["id", "model", "row", "trigger", "state"]
        assert line.split()[:5] == [str(key), "tests.Account", str(row.pk), "melt", "pending"]

    def test_of_a_model_a_row_a_name_and_an_end(
        self, row: Account, failed: int, stator: Stator
    ) -> None:
        other = Purchase.objects.create(state="held")
        remark, book = submit_event(other, "remark"), submit_event(row, "book", {"number": 1})

        assert ids(stator("events", "list", "tests.Purchase", "--json")) == [remark]
        assert ids(stator("events", "list", "tests.Account", "--row", row.pk, "--json")) == [book]
        assert ids(stator("events", "list", "--trigger", "remark", "--json")) == [remark]
        assert ids(stator("events", "list", "--state", "failed", "--json")) == [failed]
        everything = ids(stator("events", "list", "--state", "all", "--json"))
        assert everything == [failed, remark, book]
        assert len(ids(stator("events", "--json", "list", "--state", "all", "--limit", "2"))) == 2

    def test_none(self, stator: Stator) -> None:
        ended = stator("events", "list")

        assert (ended.code, ended.lines) == (0, ["There is no such event."])

    def test_a_row_needs_its_model(self, stator: Stator) -> None:
        with pytest.raises(CommandError, match=r"^Name the model of that row, too\.$"):
            stator("events", "list", "--row", "1")

    def test_in_another_database(self, stator: Stator) -> None:
        row = Account(state="open")
        row.save(using="other")
        key = submit_event(row, "nothing", using="other")

        assert ids(stator("events", "list", "--database", "other", "--json")) == [key]
        assert ids(stator("events", "list", "--json")) == []


class TestShow:
    def test_all_that_is_on_record(self, failed: int, stator: Stator) -> None:
        ended = stator("events", "show", failed)

        assert "state: failed" in ended.lines
        assert "failure: ValueError: the moon\\nis in the wrong house" in ended.lines
        assert 'context: {"mode": "fail"}' in ended.lines

    def test_what_it_waits_for(self, row: Account, stator: Stator) -> None:
        key = submit_event(row, "melt", {"why": "<b>\x1b[0m"})
        run_until_idle(Account)

        found = stator("events", "show", key, "--json").data

        assert found["context"] == {"why": "<b>\x1b[0m"}
        assert "event_not_taken" in [each["code"] for each in found["reasons"]]
        assert "\x1b" not in stator("events", "show", key).output

    def test_one_that_is_not_there(self, stator: Stator) -> None:
        with pytest.raises(CommandError, match=r"^There is no event 7 on record; 'manage\.py"):
            stator("events", "show", "7")


class TestCancel:
    def test_those_that_wait(self, row: Account, stator: Stator) -> None:
        key = submit_event(row, "melt")

        ended = stator("events", "cancel", key, "--by", "ann", "--reason", "a mistake")

        assert (ended.code, ended.lines) == (0, ["1 event cancelled."])
        event = Event.objects.get(pk=key)
        assert (event.state, event.reason) == ("cancelled", "Cancelled by ann: a mistake")

    def test_not_those_that_have_come_to_an_end(self, failed: int, stator: Stator) -> None:
        ended = stator("events", "cancel", failed, "7", "--json")

        assert (ended.code, ended.data) == (3, {"events": 0, "left": [failed, 7]})
        assert Event.objects.get(pk=failed).state == "failed"


class TestRetry:
    def test_one_that_has_failed_is_delivered(
        self, row: Account, failed: int, stator: Stator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(ACTIONS, "fail", lambda row, event: row.entries.create(number=7))

        ended = stator("events", "retry", failed)
        run_until_idle(Account)

        assert (ended.code, ended.lines) == (0, ["1 event tried again."])
        assert row.entries.get().number == 7
        assert Event.objects.get(pk=failed).state == "delivered"

    def test_one_that_waits_is_tried_now(self, row: Account, stator: Stator) -> None:
        key = submit_event(row, "rich")
        run_until_idle(Account)
        Account.objects.filter(pk=row.pk).update(balance=100)

        stator("events", "retry", key)
        run_until_idle(Account)

        assert Event.objects.get(pk=key).state == "delivered"

    @pytest.mark.parametrize("options", [{}, {"delay": 60}], ids=["delivered", "not fired"])
    def test_not_one_that_is_delivered_or_has_not_fired(
        self, row: Account, stator: Stator, options: dict[str, Any]
    ) -> None:
        key = submit_event(row, "nothing", **options)
        run_until_idle(Account)

        ended = stator("events", "retry", key)

        assert ended.code == 3
        assert ended.lines[0] == "0 events tried again."
        assert run_until_idle(Account) == 0

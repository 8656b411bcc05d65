"""Why a row does not move: one test for each reason, and agreement with what a claim does."""

from __future__ import annotations

import itertools
import json
import random
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.models import Explanation, FailureRecord, Reason, Worker
from django_fsmworker.models.limits import WHOLE_LANE
from django_fsmworker.pauses import pause
from django_fsmworker.store import buckets, pauses, store_for
from django_fsmworker.store.failures import Failure, record
from django_fsmworker.testing import travel
from tests.app.models import BasicModel, Delivery, Endpoint, Parcel, Trouble
from tests.app.models.deliveries import UNASKABLE
from tests.database.rows import FUTURE, LEASE, PAST, claim, claimed, fetch, pks, put
from tests.model_kinds import KindOfModel, every_kind
from tests.workers_on_record import on_record

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def reason(row: Any, code: str) -> Reason:
    """The reason of that code; the row has no other of the same."""
    explanation: Explanation = row.state_explain()
    (found,) = [each for each in explanation.reasons if each.code == code]
    assert explanation.claimable or any(each.blocks for each in explanation.reasons)
    assert found.sentence.endswith(".")
    return found


def failed(row: Any, **columns: Any) -> Any:
    if columns:
        put(row, **columns)
    failure = Failure("ValueError", "the moon\nis in the wrong house")
    record("default", type(row), [(row.pk, row.state, failure)], "host:1")
    return row


class TestLimits:
    """What runners are kept from, and claims by code are not."""

    def row(self, state: str, **fields: Any) -> Any:
        return Parcel.objects.create(state=state, **fields)

    def test_paused(self) -> None:
        row, other = self.row("keyed", carrier=7), self.row("keyed", carrier=8)
        pause(Parcel, "keyed", key=7, until=3600, by="ada", reason="a leak")

        found = reason(row, "paused")

        assert found.blocks
        assert found.sentence.startswith("The key 7 in the state keyed is paused by ada until ")
        assert found.sentence.endswith(": a leak.")
        assert "paused" not in other.state_explain().codes

    def test_paused_with_everything(self) -> None:
        pause()

        assert reason(self.row("plain"), "paused").sentence == "Every model is paused."

    def test_breaker_open(self) -> None:
        label = Parcel._meta.label
        words = {"kind": "breaker", "reason": "9 of 10 attempts failed within 60 s in one process"}
        pauses.add("default", label, "broken", WHOLE_LANE, 30, **words)

        found = reason(self.row("broken"), "breaker_open")

        assert found.sentence.startswith(
            "The breaker of the state broken is open, since most checks failed (9 of 10 attempts "
            "failed within 60 s in one process); one row is tried at "
        )
        with travel(seconds=31):
            found = reason(self.row("broken"), "breaker_open")
        assert found.sentence.endswith("one row is tried before the others go on.")

    def test_at_limit(self) -> None:
        row, other = self.row("keyed", carrier=7), self.row("keyed", carrier=None)
        store_for("default").permits.take(Parcel, "keyed", 2, {7: 2, None: 1}, 1, 30)

        found = reason(row, "at_limit")

        assert found.sentence == (
            "In the state keyed with carrier=7 2 rows run at once, as many as its limit allows."
        )
        assert "at_limit" not in other.state_explain().codes

    def test_at_rate(self) -> None:
        row = self.row("rated")
        rate = Parcel.state_graph.states["rated"].limits.rate
        assert rate is not None
        with travel(seconds=60):  # or a tenth of a second might pass before it is asked
            buckets.take(store_for("default"), Parcel, "rated", rate, {WHOLE_LANE: 3})

        found = reason(row, "at_rate")

        assert found.sentence.startswith(
            "In the state rated as many attempts have begun as its rate of 10 in 1 s allows;"
        )


class TestReasons:
    def test_unknown_state(self) -> None:
        row = Trouble.objects.create()
        put(row, state="nirvana")

        found = reason(row, "unknown_state")

        assert found.sentence == (
            "TroubleStates does not declare the state nirvana, so no runner with this code takes "
            "the row."
        )
        assert "stator plan tests.Trouble" in found.remedy

    def test_running(self) -> None:
        found = reason(claimed(Trouble), "running")

        assert found.sentence.startswith("A runner holds it: its check runs, or waits for a thread")
        assert found.evidence["suspect"] is False

    def test_running_in_which_worker_and_since_when(self) -> None:
        row = claimed(Trouble)
        check = {"model": "tests.Trouble", "state": row.state, "keys": [str(row.pk)]}
        on_record("shop.1@here", running=[{**check, "seconds": 9.0}])

        found = reason(row, "running")

        assert found.sentence.startswith(
            "The worker shop.1@here (process 7 on here) has run its check since "
        )
        assert " s ago); the lease lasts until " in found.sentence
        assert found.evidence["worker"] == "shop.1@here"
        assert found.evidence["since"] < found.evidence["lease"]

    def test_running_since_its_claim(self) -> None:
        served, options = {"tests.Trouble": ""}, {"lease": LEASE}
        row = claimed(Trouble)
        check = {"model": "tests.Trouble", "state": row.state, "keys": [str(row.pk)]}
        of_before = [{**check, "seconds": 9.0}]
        on_record("shop.1@here", silent=5, running=of_before, served=served, options=options)

        found = reason(row, "running")

        assert found.sentence.startswith("A runner holds it since ")
        assert (found.evidence["worker"], found.evidence["since"]) == (
            None,
            fetch(row).state_lease - timedelta(seconds=LEASE),
        )

    def test_running_after_its_process_had_died(self) -> None:
        row = claimed(Trouble)
        put(row, state_lease=PAST)
        claim(Trouble)

        found = reason(row, "running")

        assert "for another try after its process had died" in found.sentence

    def test_ending(self) -> None:
        row = claimed(Trouble)
        fetch(row).state_transition("patient")

        found = reason(row, "ending")

        assert found.sentence.startswith("It was moved, parked or cancelled while a check ran on")

    def test_parked_by_hand(self) -> None:
        row = Trouble.objects.create()
        row.state_park("the bank is shut", by="ann")

        found = reason(row, "parked_by_hand")

        assert found.sentence.startswith("It was parked by ann at ")
        assert found.sentence.endswith(" ago): the bank is shut.")
        assert found.evidence["by"] == "ann"

    def test_parked_by_hand_without_a_record(self) -> None:
        row = Trouble.objects.create()
        put(row, state_next=None, state_failures=-1)

        assert reason(row, "parked_by_hand").sentence == "It was parked."

    def test_parked(self) -> None:
        row = failed(Trouble.objects.create(), state_next=None, state_failures=3)

        found = reason(row, "parked")

        assert found.sentence == (
            "It failed 3 times in a row and is not tried again: ValueError: the moon."
        )
        assert found.evidence["worker"] == "host:1"

    def test_terminal(self) -> None:
        found = reason(Trouble.objects.create(state="done"), "terminal")

        assert found.sentence == "The state done is terminal: no way leads out of it."

    def test_deleting(self) -> None:
        row = BasicModel.objects.create(state="deleted")

        assert reason(row, "deleting").sentence.startswith("It is deleted at ")
        with travel(seconds=60):
            assert reason(row, "deleting").sentence.startswith("It is to be deleted since ")
            failed(row)
            assert reason(row, "deleting").sentence.endswith(
                "and could not be: ValueError: the moon."
            )

    def test_manual(self) -> None:
        found = reason(BasicModel.objects.create(state="done"), "manual")

        assert found.sentence == (
            "The state done is manual: no check runs in it, and the row waits for code that moves "
            "it to pending_delete."
        )
        assert found.evidence == {"events": [], "targets": ["pending_delete"]}

    def test_stranded(self) -> None:
        row = Trouble.objects.create()
        put(row, state_next=None)

        assert reason(row, "stranded").sentence.startswith(
            "A check runs in the state new, but nothing is due"
        )

    def test_timeout(self) -> None:
        found = reason(Trouble.objects.create(state="waiting"), "timeout")

        assert found.sentence.startswith("Nothing is due before its timeout: it goes to failed at ")

    def test_backoff(self) -> None:
        row = failed(Trouble.objects.create(), state_next=FUTURE, state_failures=1)

        found = reason(row, "backoff")

        assert found.sentence.startswith("It is tried again at ")
        assert found.sentence.endswith(", after it has failed once: ValueError: the moon.")

    def test_start_after(self) -> None:
        found = reason(BasicModel.objects.create(state="pending_delete"), "start_after")

        assert found.sentence.endswith(": 5 s after it entered the state pending_delete.")

    def test_later(self) -> None:
        row = Trouble.objects.create()
        put(row, state_next=FUTURE)

        assert reason(row, "later").sentence.startswith("Its check is next called at ")

    def test_guard_false_and_swept(self) -> None:
        row = Delivery.objects.create(state="held", endpoint=Endpoint.objects.create(paused=True))

        explanation = row.state_explain()

        sentences = [each.sentence for each in explanation.reasons if each.code == "guard_false"]
        assert sentences == [
            "Not true is the guard to gone (endpoint__removed=True).",
            "Not true is the guard to pending (endpoint__paused=False).",
        ]
        assert reason(row, "swept").sentence.startswith("No check runs in the state held: ")

    def test_guard_true(self) -> None:
        row = Delivery.objects.create(state="held", endpoint=Endpoint.objects.create(removed=True))

        found = reason(row, "guard_true")

        assert found.evidence["target"] == "gone"

    def test_guard_fails(self) -> None:
        row = Delivery.objects.create(state="signing", amount=UNASKABLE)

        assert reason(row, "guard_fails").sentence.startswith("The database cannot ask the guard")

    def test_due(self) -> None:
        row = Trouble.objects.create()
        put(row, state_next=PAST)

        found = reason(row, "due")

        assert found.sentence.startswith("It is due since ")
        assert "(1 h ago)" in found.sentence

    def test_unserved(self) -> None:
        row = Trouble.objects.create()

        found = reason(row, "unserved")

        assert found.sentence == "No living worker runs rows of tests.Trouble."
        assert found.remedy == "Start one: 'manage.py runstator tests.Trouble'."

    def test_served_by_none_but_a_suspended_worker(self) -> None:
        row = Trouble.objects.create()
        worker = on_record("one", served={"tests.Trouble": ""}, status="suspended")

        found = reason(row, "unserved")

        assert found.sentence == (
            "No living worker runs rows of tests.Trouble at the moment: one (suspended)."
        )
        assert found.evidence == {"workers": ["one"]}
        Worker.objects.filter(pk=worker.pk).update(status="ready")
        assert "unserved" not in [each.code for each in row.state_explain().reasons]

    def test_lapsed(self) -> None:
        row = claimed(Trouble)
        put(row, state_lease=PAST)

        assert reason(row, "lapsed").evidence["deaths"] == 0

    def test_failing(self) -> None:
        row = failed(Trouble.objects.create(), state_failures=2)

        found = reason(row, "failing")

        assert found.sentence == "It has failed 2 times in a row: ValueError: the moon."

    @pytest.mark.parametrize(("before", "told"), [(1, True), (60, False)])
    def test_failing_while_its_check_does_not_end(self, before: float, told: bool) -> None:
        """A check that cannot be interrupted is put on record while it runs."""
        row = failed(claimed(Trouble))
        FailureRecord.objects.update(last_seen=clock.now() - timedelta(seconds=before))
        check = {"model": "tests.Trouble", "state": row.state, "keys": [str(row.pk)]}
        on_record("shop.1@here", running=[{**check, "seconds": 9.0}])

        found = [each.sentence for each in row.state_explain().reasons if each.code == "failing"]

        assert found == ["The check that runs has failed already: ValueError: the moon."] * told

    def test_of_one_failure_it_does_not_say_in_a_row(self) -> None:
        failing = failed(Trouble.objects.create(), state_failures=1)
        parked = failed(Trouble.objects.create(), state_next=None, state_failures=1)

        assert reason(failing, "failing").sentence == "It has failed once: ValueError: the moon."
        assert reason(parked, "parked").sentence == (
            "It failed once and is not tried again: ValueError: the moon."
        )


class TestExplanation:
    def test_is_read_by_people(self) -> None:
        row = Trouble.objects.create(state="done")

        assert str(row.state_explain()) == (
            f"tests.Trouble {row.pk} is in the state done.\n"
            "- The state done is terminal: no way leads out of it.\n"
            "  Only code can move it, with state_transition()."
        )

    def test_is_read_by_programs(self) -> None:
        explanation = Trouble.objects.create().state_explain()

        found = json.loads(json.dumps(explanation.as_dict(), cls=DjangoJSONEncoder))

        assert found["claimable"] is True
        assert [each["code"] for each in found["reasons"]] == ["due", "unserved"]
        assert set(found["reasons"][0]) == {"code", "sentence", "remedy", "evidence", "blocks"}

    def test_is_of_the_row_as_it_is(self) -> None:
        row = Trouble.objects.create()
        Trouble.objects.update(state="patient")

        assert row.state_explain().state == "patient"
        assert row.state == "new"

    def test_a_row_that_is_gone(self) -> None:
        row = Trouble.objects.create()
        Trouble.objects.all().delete()

        with pytest.raises(Trouble.DoesNotExist):
            row.state_explain()

    @every_kind
    def test_of_every_kind_of_model(self, kind: KindOfModel) -> None:
        row = kind.row()

        explanation = row.state_explain()

        assert (explanation.model, explanation.claimable) == (kind.runs._meta.label, True)

    def test_for_async_code(self) -> None:
        row = Trouble.objects.create()

        assert async_to_sync(row.astate_explain)().claimable is True


@pytest.mark.parametrize("model", [BasicModel, Delivery, Trouble])
def test_it_agrees_with_a_claim(model: Any) -> None:
    """Rows with every combination of what a claim looks at, in a random order."""
    states = [*model.state_graph.states, "nirvana"]
    times = [None, PAST, FUTURE]
    tokens = [None, 4, 5, -5]
    combinations = list(itertools.product(states, times, times, tokens, [-2, 0, 2]))
    random.shuffle(combinations)
    some = combinations[:150]
    rows = model.objects.bulk_create(model() for _ in some)
    for row, (state, due, lease, token, failures) in zip(rows, some, strict=True):
        put(
            row,
            state=state,
            state_next=due,
            state_lease=lease,
            state_claim=token,
            state_failures=failures,
        )

    explained = {row.pk: explanation_of(row) for row in rows}
    taken = set(pks(claim(model)))

    wrong = {
        row.pk: (given, explained[row.pk].codes)
        for row, given in zip(rows, some, strict=True)
        if explained[row.pk].claimable is not (row.pk in taken)
    }
    assert wrong == {}
    assert all(each.reasons for each in explained.values())
    assert 0 < len(taken) < len(rows)


def explanation_of(row: Any) -> Explanation:
    found: Explanation = QuerySet(type(row)).get(pk=row.pk).state_explain()
    return found


def test_moments_are_as_of_the_database() -> None:
    row = Trouble.objects.create()

    with travel(timedelta(hours=2)):
        explanation = row.state_explain()

    assert timedelta(hours=1, minutes=59) < explanation.at - explanation.since

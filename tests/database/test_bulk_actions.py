"""Bulk actions: to which rows they are done, what they leave out, that nothing is done twice."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.core import signing
from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.bulk import batches, running
from django_fsmworker.bulk.batches import write_batch
from django_fsmworker.bulk.freezing import SALT, NotFrozen, freeze, thaw
from django_fsmworker.bulk.starting import resume, start, stop
from django_fsmworker.bulk.verbs import VERBS
from django_fsmworker.exceptions import NotAllowed
from django_fsmworker.models import BulkAction, Event, FailureRecord
from django_fsmworker.store.bulk_rows import keys_after, number_in
from django_fsmworker.testing import step
from tests.app.models import Account, BasicModel, ChildKind, TextKey, UUIDKey

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def make_rows(number, **columns):
    made = [BasicModel.objects.create().pk for _ in range(number)]
    # Past its own queryset: a row of another build may be in any state.
    rows: QuerySet[BasicModel] = QuerySet(BasicModel)
    rows.filter(pk__in=made).update(**columns)
    return made


def parked(number):
    return make_rows(number, state_next=None, state_failures=5)


def finish(action):
    """Run its checks until it rests; the action as it is then."""
    action = BulkAction.objects.get(pk=action.pk)
    while action.state in ("pending", "running"):
        step(action)
    return action


@pytest.fixture
def small_batches(monkeypatch):
    """Two rows a batch, and one batch a check."""
    monkeypatch.setattr(running, "BATCH", 2)
    monkeypatch.setattr(running, "BUDGET", 0.0)


class TestVerbs:
    def test_retry_all_that_match_and_no_others(self):
        rows = parked(3)
        (other,) = make_rows(1, state_next=None, state_failures=2)

        action = finish(start("retry", BasicModel.objects.filter(state_failures=5)))

        assert (action.state, action.matched, action.done, action.left_out) == ("done", 3, 3, 0)
        assert BasicModel.objects.due().filter(pk__in=rows, state_failures=0).count() == 3
        assert BasicModel.objects.get(pk=other).state_failures == 2

    def test_park_with_who_and_why(self):
        (row,) = make_rows(1)

        finish(start("park", BasicModel.objects.all(), by="ops", reason="not today"))

        failure: Any = BasicModel.objects.get(pk=row).failure
        assert (failure.parked_by, failure.parked_reason) == ("ops", "not today")

    def test_unpark(self):
        parked(2)

        finish(start("unpark", BasicModel.objects.all()))

        assert not BasicModel.objects.parked().exists()

    def test_move_only_where_it_is_declared(self):
        (new,) = make_rows(1)
        (deleted,) = make_rows(1, state="deleted", state_next=None)

        action = finish(start("move", BasicModel.objects.all(), "done"))

        states = dict(BasicModel.objects.values_list("pk", "state"))
        assert states == {new: "done", deleted: "deleted"}
        assert (action.done, action.skipped) == (1, {"state": [1, [str(deleted)]]})

    def test_force_into_any_state(self):
        rows = make_rows(2, state="deleted", state_next=None)
        make_rows(1, state="done", state_next=None)

        action = finish(start("force", BasicModel.objects.all(), "done"))

        assert BasicModel.objects.in_state("done").filter(pk__in=rows).count() == 2
        assert (action.done, action.skipped["already"][0]) == (2, 1)

    def test_restart_takes_rows_in_the_state_too(self):
        (row,) = make_rows(1, state_failures=3, state_next=None)
        (held,) = make_rows(
            1, state_lease=clock.now() + timedelta(minutes=1), state_claim=4, state="done"
        )

        action = finish(start("restart", BasicModel.objects.all(), "new"))

        again = BasicModel.objects.get(pk=row)
        assert (again.state_failures, again.state_next is None) == (0, False)
        assert (action.done, action.skipped) == (1, {"running": [1, [str(held)]]})

    def test_an_event_for_each_row_that_takes_it(self):
        rows = [Account.objects.create().pk for _ in range(3)]
        frozen = Account.objects.create(state="frozen").pk
        user = User.objects.create_user("ops")

        action = finish(
            start("send", Account.objects.all(), "book", by=user, context={"number": 7})
        )

        events = Event.objects.filter(trigger="book").order_by("pk")
        assert [event.row for event in events] == [str(pk) for pk in rows]
        assert {(event.by_pk, event.context["number"]) for event in events} == {(str(user.pk), 7)}
        assert action.skipped == {"state": [1, [str(frozen)]]}

    def test_an_event_that_its_sender_may_send_nowhere(self):
        Account.objects.create(state="frozen")
        user = User.objects.create_user("ops")

        with pytest.raises(NotAllowed):
            VERBS["send"](Account, "thaw", user).refuse()
        action = finish(start("send", Account.objects.all(), "thaw", by=user))

        assert action.state == "failed"
        assert "has not the permission" in action.note

    @pytest.mark.parametrize("name", sorted(VERBS))
    def test_each_says_why_it_leaves_rows_out(self, name):
        subject = {"send": "nothing", "move": "done", "force": "new", "restart": "new"}
        verb = VERBS[name](BasicModel, subject.get(name, ""))
        make_rows(1, state="deleted", state_next=None)
        make_rows(1, state_lease=clock.now() + timedelta(minutes=1), state_claim=4)
        make_rows(1)

        rows = BasicModel.objects.annotate(why=verb.why())

        assert {row.why for row in rows.filter(verb.eligible())} <= {""}
        assert "" not in {row.why for row in rows.exclude(pk__in=rows.filter(verb.eligible()))}

    def test_those_that_are_due_or_held_are_not_retried(self):
        make_rows(1)
        make_rows(1, state_lease=clock.now() + timedelta(minutes=1), state_claim=4)
        make_rows(1, state="done", state_next=None)

        action = finish(start("retry", BasicModel.objects.all()))

        skipped = {why: number for why, (number, _) in action.skipped.items()}
        assert skipped == {"due": 1, "running": 1, "state": 1}


class TestRows:
    def test_those_that_come_later_are_left_alone(self):
        parked(1)
        action = start("retry", BasicModel.objects.parked())
        step(BulkAction.objects.get())
        (late,) = parked(1)

        finish(action)

        assert BasicModel.objects.parked().get().pk == late

    def test_what_matches_no_more_and_what_is_gone(self):
        changed, gone, still = parked(3)
        query = thaw(freeze(BasicModel.objects.filter(state="new")))
        BasicModel.objects.filter(pk=changed).update(state="done")
        BasicModel.objects.filter(pk=gone).delete()

        keys = [changed, gone, still]
        tally = write_batch(VERBS["retry"](BasicModel), BasicModel, "default", keys, query)

        assert tally.done == 1
        assert tally.skipped == {"changed": [1, [str(changed)]], "gone": [1, [str(gone)]]}

    @pytest.mark.parametrize("model", [TextKey, UUIDKey, ChildKind])
    def test_keys_of_every_kind(self, model, small_batches):
        for number in range(5):
            own = {"code": f"a'{number}%s"} if model is TextKey else {}
            model.objects.create(**own)
        states = list(model.state_graph.states)

        action = finish(start("force", model.objects.all(), states[-1]))

        assert (action.state, action.done) == ("done", 5)
        assert set(model.objects.values_list("state", flat=True)) == {states[-1]}

    def test_no_rows_at_all(self):
        action = finish(start("retry", BasicModel.objects.all()))

        assert (action.state, action.done) == ("done", 0)

    def test_rows_of_another_database(self):
        row = BasicModel(state_next=None, state_failures=5)
        row.save(using="other")
        BasicModel.objects.using("other").update(state_next=None, state_failures=5)

        start("retry", BasicModel.objects.using("other"))
        action = BulkAction.objects.using("other").get()
        while action.state in ("pending", "running"):
            step(action)

        assert not BulkAction.objects.exists()
        assert not BasicModel.objects.using("other").parked().exists()


class TestGoingOn:
    def test_a_batch_a_time_each_row_once(self, small_batches):
        rows = [Account.objects.create().pk for _ in range(5)]
        start("send", Account.objects.all(), "nothing")
        action = BulkAction.objects.get()
        step(action)

        step(action)
        assert (action.state, action.done, action.cursor) == ("running", 2, str(rows[1]))

        finish(action)
        assert sorted(Event.objects.values_list("row", flat=True)) == sorted(map(str, rows))

    def test_stopped_and_resumed(self, small_batches):
        rows = [Account.objects.create().pk for _ in range(5)]
        start("send", Account.objects.all(), "nothing")
        action = BulkAction.objects.get()
        step(action)
        step(action)

        stop(action, by="ops")
        assert (action.state, action.state_next) == ("stopped", None)
        resume(action, by="ops")
        action = finish(action)

        assert (action.state, action.done, action.matched) == ("done", 5, 5)
        assert sorted(Event.objects.values_list("row", flat=True)) == sorted(map(str, rows))

    def test_what_was_stopped_under_a_check_writes_nothing(self):
        parked(2)
        start("retry", BasicModel.objects.all())
        action = BulkAction.objects.get()
        step(action)
        held = BulkAction.objects.get()

        stop(action)
        answer = running.run(held)

        assert answer is None
        assert BasicModel.objects.parked().count() == 2

    def test_another_claim_writes_nothing(self):
        parked(2)
        start("retry", BasicModel.objects.all())
        step(BulkAction.objects.get())
        lost = BulkAction.objects.get()
        BulkAction.objects.update(state_claim=8, state_lease=clock.now() + timedelta(minutes=1))

        running.run(lost)

        assert BasicModel.objects.parked().count() == 2
        assert BulkAction.objects.get().done == 0

    def test_progress_is_written_with_the_batch_or_neither_is(self, monkeypatch):
        parked(2)
        start("retry", BasicModel.objects.all())
        action = BulkAction.objects.get()
        step(action)

        def die(self, **columns):
            raise SystemError("killed before the commit")

        with monkeypatch.context() as patched:
            patched.setattr(running._Work, "_write", die)
            with pytest.raises(SystemError):
                running.run(BulkAction.objects.get())

        assert BasicModel.objects.parked().count() == 2
        assert BulkAction.objects.get().done == 0

    def test_examples_are_a_few(self):
        rows = make_rows(batches.EXAMPLES + 2, state="done", state_next=None)

        action = finish(start("retry", BasicModel.objects.all()))

        assert action.skipped == {
            "state": [len(rows), [str(pk) for pk in rows[: batches.EXAMPLES]]]
        }


class TestFailing:
    def test_a_filter_that_was_changed(self):
        start("retry", BasicModel.objects.all())
        BulkAction.objects.update(rows="W1tdLFtdXQ:1:x")

        action = finish(BulkAction.objects.get())

        assert action.state == "failed"
        assert action.note.startswith("The filter on record was not signed")

    def test_its_starter_is_active_no_more(self):
        parked(1)
        user = User.objects.create_user("ops")
        start("retry", BasicModel.objects.all(), by=user)
        user.is_active = False
        user.save()

        action = finish(BulkAction.objects.get())

        assert (action.state, BasicModel.objects.parked().count()) == ("failed", 1)
        assert action.note == "ops, who has started it, is no active user any more."

    def test_a_state_that_is_not_declared_any_more(self):
        start("force", BasicModel.objects.all(), "done")
        make_rows(1)
        BulkAction.objects.update(subject="vanished")

        action = finish(BulkAction.objects.get())

        assert action.state == "failed"
        assert "vanished" in action.note

    @pytest.mark.parametrize("column", ["verb", "listed"])
    def test_what_this_version_does_not_know(self, column):
        start("retry", BasicModel.objects.all())
        BulkAction.objects.update(**{column: "tests.Vanished"})

        action = finish(BulkAction.objects.get())

        assert action.state == "failed"
        assert action.note.startswith("This version does not know how to")

    def test_a_count_that_fails_is_done_without(self, monkeypatch):
        parked(2)
        start("retry", BasicModel.objects.all())
        monkeypatch.setattr(running, "number_in", lambda *args: 1 / 0)
        action = BulkAction.objects.get()
        step(action, raise_failures=False)

        action = finish(action)

        assert (action.state, action.matched, action.done) == ("done", None, 2)

    def test_what_was_raised_is_on_record(self, monkeypatch):
        parked(1)
        start("retry", BasicModel.objects.all())
        monkeypatch.setattr(running, "keys_after", lambda *args: 1 / 0)
        action = BulkAction.objects.get()

        while action.state in ("pending", "running"):
            step(action, raise_failures=False)

        assert action.state == "failed"
        assert "division by zero" in FailureRecord.objects.get(row=str(action.pk)).message
        monkeypatch.undo()
        resume(action)
        assert finish(action).state == "done"

    def test_it_cannot_be_resumed_when_it_is_done(self):
        action = finish(start("retry", BasicModel.objects.all()))

        with pytest.raises(NotAllowed):
            resume(action)


class TestFreezing:
    VALUES = (
        None,
        True,
        7,
        1.5,
        "é%s'",
        clock.now(),
        clock.now().date(),
        timedelta(days=1, microseconds=3),
        Decimal("1.10"),
        UUID(int=5),
        b"\x00\xff",
        ["a", 1],
    )

    def test_values_of_every_kind_come_back(self, monkeypatch):
        monkeypatch.setattr(
            "django_fsmworker.bulk.freezing.frozen_query", lambda rows: ("SELECT", self.VALUES)
        )

        assert thaw(freeze(BasicModel.objects.all())) == ("SELECT", list(self.VALUES))

    def test_what_no_row_can_match(self):
        with pytest.raises(NotFrozen, match="No row can match"):
            freeze(BasicModel.objects.none())

    def test_a_value_that_cannot_be_stored(self, monkeypatch):
        monkeypatch.setattr(
            "django_fsmworker.bulk.freezing.frozen_query", lambda rows: ("SELECT", [object()])
        )

        with pytest.raises(NotFrozen, match="of the type object cannot be given to the runners"):
            freeze(BasicModel.objects.all())

    def test_it_is_signed(self):
        text = signing.dumps(["SELECT 1", []], key="another key", salt=SALT)

        with pytest.raises(NotFrozen):
            thaw(text)

    def test_joins_name_a_row_once(self):
        account = Account.objects.create()
        for number in range(3):
            account.entries.create(number=number)
        rows = Account.objects.filter(entries__number__gte=0)

        query = thaw(freeze(rows))

        assert number_in("default", query) == 1
        assert keys_after(Account, "default", query, None, account.pk, 10) == [account.pk]

    def test_moments_and_unique_ids(self):
        key = uuid4()
        UUIDKey.objects.create(pk=key)
        rows = UUIDKey.objects.filter(pk=key, state_changed__lte=clock.now() + timedelta(days=1))

        assert keys_after(UUIDKey, "default", thaw(freeze(rows)), None, key, 10) == [key]

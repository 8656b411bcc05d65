"""``state_send()``: conditions, permissions, actions and the transition, in one transaction."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.db import connection, transaction
from django.db.models import F, QuerySet, Value
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext

from django_fsmworker.exceptions import NotAllowed
from django_fsmworker.models import FailureRecord
from django_fsmworker.signals import state_changed
from django_fsmworker.store import Fence, store_for
from django_fsmworker.store.failures import Failure, record
from tests.app.models import Purchase, PurchaseStates
from tests.threads import DatabaseThread


def stored(row: Any) -> Any:
    rows: QuerySet[Any] = QuerySet(type(row))
    return rows.get(pk=row.pk)


def refusal(row: Any, trigger: str, **sent: Any) -> NotAllowed:
    """What is raised; nothing was written, and the instance is as it was."""
    before, instance = Purchase.objects.values().get(pk=row.pk), dict(vars(row))
    with pytest.raises(NotAllowed) as caught:
        row.state_send(trigger, **sent)
    assert Purchase.objects.values().get(pk=row.pk) == before
    assert vars(row) == instance
    return caught.value


async def coroutine(*args: object) -> bool:
    return False


def hidden_coroutine(*args: object) -> object:
    """As what decorates an async method may hide that it is one."""
    return coroutine(*args)


class Plain:
    """A user as Django's ``AbstractBaseUser`` has it: without ``has_perm()``."""

    pk, is_authenticated = 1, True

    def __repr__(self) -> str:
        return "<ann>"

    def __str__(self) -> str:
        return "ann"


@pytest.fixture
def user(db) -> User:
    return User.objects.create_user("ann")


@pytest.fixture
def boss(db) -> User:
    boss = User.objects.create_user("boss")
    boss.user_permissions.set(Permission.objects.filter(content_type__app_label="tests"))
    return boss


@pytest.mark.django_db
class TestSending:
    def test_it_moves_the_row(self):
        row = Purchase.objects.create()

        state = row.state_send("hold")

        assert state is PurchaseStates.held
        assert (row.state, stored(row).state) == ("held", "held")
        assert [each for each, _ in stored(row).state_history] == ["open", "held"]

    def test_of_what_a_page_has_posted_each_has_its_last_value(self):
        row = Purchase.objects.create(state="held")

        row.state_send("remark", context=QueryDict("text=a&text=b"))

        assert row.note == "remark by None: b;"

    def test_a_context_that_is_none(self):
        row = Purchase.objects.create(state="held")

        with pytest.raises(TypeError, match="context of remark is a list and no mapping"):
            row.state_send("remark", context=["text"])  # type: ignore[arg-type]

    def test_an_instance_that_was_never_saved(self):
        for move in (lambda row: row.state_send("hold"), lambda row: row.state_move("held")):
            with pytest.raises(ValueError, match="has no primary key yet; save it before state_"):
                move(Purchase())

    def test_what_counts_is_the_row_in_the_database(self):
        row = Purchase.objects.create()
        Purchase.objects.get().state_send("hold")
        Purchase.objects.update(amount=7, owner="bob")

        row.state_send("pay", amount=7)

        assert (row.state, row.amount, row.owner, row.paid) == ("approved", 7, "bob", 7)

    def test_a_deferred_instance(self):
        row = Purchase.objects.only("pk").get(pk=Purchase.objects.create(state="held").pk)

        row.state_send("pay", amount=7)

        assert "amount" not in vars(row)
        assert (row.state, row.paid) == ("approved", 7)

    def test_conditions_are_tried_in_order(self):
        small = Purchase.objects.create(state="held", amount=999)
        large = Purchase.objects.create(state="held", amount=1000)

        for row in (small, large):
            row.state_send("approve", by="job")

        assert (small.note, large.note) == ("", "approve by job: ;")
        assert (small.state, large.state) == ("approved", "approved")

    def test_what_the_action_assigns_is_saved(self):
        row = Purchase.objects.create(state="held")

        assert row.state_send("remark", text="well", context={"by": "x"}) is PurchaseStates.held

        assert row.note == stored(row).note == "remark by None: well;"

    def test_in_a_terminal_state(self):
        row = Purchase.objects.create(state="done")

        assert row.state_send("remark", context={"text": "old"}) is PurchaseStates.done

        assert stored(row).note == "remark by None: old;"

    def test_an_async_action(self):
        row = Purchase.objects.create(state="approved", paid=1)

        row.state_send("ship")

        assert (row.state, row.note, stored(row).note) == ("done", "shipped", "shipped")

    def test_an_async_action_on_an_event_loop(self):
        row = Purchase.objects.create(state="approved", paid=1)

        assert async_to_sync(row.astate_send)("ship") is PurchaseStates.done

        assert (row.note, stored(row).note) == ("shipped", "shipped")

    def test_an_action_that_turns_out_to_be_async(self, monkeypatch):
        """It has done nothing, so the event has not, either."""
        monkeypatch.setattr(PurchaseStates, "do", hidden_coroutine)
        row = Purchase.objects.create(state="approved")

        with pytest.raises(TypeError, match=r"^The action of on\('act'\) of .* as async def\.$"):
            row.state_send("act")

        assert stored(row).state == "approved"

    def test_failures_are_past(self):
        row = Purchase.objects.create()
        record("default", Purchase, [(row.pk, "open", Failure("RuntimeError", "no"))], "worker")

        row.state_send("hold")

        assert not FailureRecord.objects.filter(resolved=None).exists()

    def test_an_event_within_an_event(self):
        row = Purchase.objects.create(state="approved", paid=1)
        other = Purchase.objects.create()

        row.state_send("act", call=lambda row: other.state_send("hold", by="act"))

        assert (stored(row).state, stored(other).state) == ("done", "held")

    def test_who_and_why_are_told(self, django_capture_on_commit_callbacks):
        row, told = Purchase.objects.create(), []

        def listen(sender, **kwargs):
            told.append([kwargs[name] for name in ("source", "cause", "trigger", "by", "reason")])

        state_changed.connect(listen, sender=Purchase)
        try:
            with django_capture_on_commit_callbacks(execute=True):
                row.state_send("hold", by="job", reason="late")
        finally:
            state_changed.disconnect(listen, sender=Purchase)

        assert told == [["open", "event", "hold", "job", "late"]]

    def test_who_and_why_are_logged(self, caplog):
        row = Purchase.objects.create()

        with caplog.at_level("DEBUG", "django_fsmworker.models.sending"):
            row.state_send("hold")
            row.state_send("remark", by="ann", reason="asked")

        assert [each.getMessage() for each in caplog.records] == [
            f"tests.Purchase {row.pk} took hold in open and moved to held, sent by the program.",
            f"tests.Purchase {row.pk} took remark in held, sent by ann: asked.",
        ]

    def test_a_row_that_is_gone(self):
        row = Purchase.objects.create()
        Purchase.objects.all().delete()

        with pytest.raises(Purchase.DoesNotExist):
            row.state_send("hold")

    def test_statements(self, vendor):
        """The row is locked, and written, and the durable events that wait for it are woken."""
        row = Purchase.objects.create()

        with CaptureQueriesContext(connection) as queries:
            row.state_send("hold")

        sent = [each["sql"] for each in queries if "SAVEPOINT" not in each["sql"]]
        assert len(sent) == (4 if vendor == "mysql" else 3), sent


@pytest.mark.django_db
class TestActionsThatFail:
    def fail(self, call: Any, trigger: str = "act") -> Any:
        row = Purchase.objects.create(state="approved", note="before")
        error, seen = None, dict(vars(row))
        try:
            row.state_send(trigger, call=call)
        except Exception as raised:
            error = raised
        assert (stored(row).state, stored(row).note) == ("approved", "before")
        assert vars(row) == seen
        return error

    def test_all_is_undone(self):
        def write_and_raise(row: Any) -> None:
            row.note = "in it"
            row.save()
            raise RuntimeError("no")

        assert str(self.fail(write_and_raise)) == "no"

    def test_an_action_that_breaks_the_transaction(self):
        def breaks(row: Any) -> None:
            Purchase.objects.create(pk=row.pk)

        assert type(self.fail(breaks)).__name__ == "IntegrityError"

    @pytest.mark.parametrize("trigger", ["act", "stay"])
    def test_an_action_that_assigns_the_state(self, trigger):
        error = self.fail(lambda row: setattr(row, "state", "rejected"), trigger)

        assert str(error).startswith(f"The action of on('{trigger}') of <State PurchaseStates.")
        assert str(error).endswith("nothing was saved. Declare with to= where it leads.")

    def test_an_action_that_moves_the_row(self):
        error = self.fail(lambda row: row.state_transition("rejected"))

        assert "itself to rejected; nothing was saved." in str(error)

    def test_an_action_that_deletes_the_row(self):
        error = self.fail(lambda row: row.delete())

        assert str(error).startswith("The action of on('act') of <State PurchaseStates.approved> ")
        assert "deleted tests.Purchase " in str(error)


@pytest.mark.django_db
class TestRefused:
    def test_unknown_event(self):
        row = Purchase.objects.create()

        error = refusal(row, "explode")

        assert error.reason == "unknown_event"
        assert str(error) == (
            f"tests.Purchase {row.pk} takes no event 'explode'; those that PurchaseStates "
            f"declares: act, approve, cancel, hold, pay, poke, remark, ship, stay."
        )

    def test_source_state(self):
        row = Purchase.objects.create(state="approved")

        error = refusal(row, "hold")

        assert (error.reason, str(error.user_message)) == (
            "source_state",
            "This cannot be done in the present state.",
        )
        assert str(error) == (
            f"tests.Purchase {row.pk} does not take hold in approved; this event is taken in: open."
        )

    @pytest.mark.parametrize("amount", [None, 6])
    def test_condition(self, amount):
        row = Purchase.objects.create(state="held", amount=7)

        error = refusal(row, "pay", **({} if amount is None else {"amount": amount}))

        assert error.reason == "condition"
        assert str(error) == (
            f"tests.Purchase {row.pk} does not take pay in held now, because what when= asks for "
            f"is not true: is_enough."
        )

    def test_a_condition_that_turns_out_to_be_async(self, monkeypatch):
        monkeypatch.setattr(PurchaseStates, "is_enough", hidden_coroutine)
        row = Purchase.objects.create(state="held", amount=5)

        with pytest.raises(TypeError, match=r"^The condition of on\('pay'\) of .* with def\.$"):
            row.state_send("pay", amount=0)

        assert stored(row).state == "held"

    def test_a_condition_of_the_database(self):
        assert refusal(Purchase.objects.create(state="approved"), "ship").reason == "condition"

    def test_a_state_that_this_build_does_not_know(self):
        row = Purchase.objects.create()
        QuerySet(Purchase).update(state=Value("older"))

        assert refusal(row, "hold").reason == "source_state"

    def test_an_assigned_state(self):
        Purchase.objects.create()
        row = Purchase.objects.get()
        row.state = "held"

        with pytest.raises(ValueError, match=r"which state_send\(\) would drop"):
            row.state_send("hold")

    def test_it_can_be_pickled(self):
        error = refusal(Purchase.objects.create(), "explode")

        again = pickle.loads(pickle.dumps(error))

        assert (str(again), again.reason) == (str(error), "unknown_event")


@pytest.mark.django_db
class TestPermissions:
    """Of a user who lacks one, on every way that leads to a row."""

    def test_state_send(self, user):
        row = Purchase.objects.create(state="held")

        error = refusal(row, "cancel", by=user)

        assert error.reason == "permission"
        assert str(error) == (
            f"tests.Purchase {row.pk} does not take cancel in held from ann, who has not the "
            f"permission for it: tests.cancel_purchase."
        )

    def test_nobody_is_no_program(self):
        assert (
            refusal(Purchase.objects.create(state="held"), "cancel", by=AnonymousUser()).reason
            == "permission"
        )

    def test_astate_send(self, user):
        row = Purchase.objects.create(state="held")

        with pytest.raises(NotAllowed) as caught:
            async_to_sync(row.astate_send)("cancel", by=user)

        assert (caught.value.reason, stored(row).state) == ("permission", "held")

    def test_state_events(self, user):
        row = Purchase.objects.create(state="held")

        (offer,) = [each for each in row.state_events(user) if each.trigger == "cancel"]

        assert (offer.allowed, offer.reason) == (False, "permission")

    def test_who_has_it(self, boss):
        row = Purchase.objects.create(state="held")

        row.state_send("cancel", by=boss)

        assert stored(row).state == "rejected"

    @pytest.mark.parametrize("by", [None, "job"])
    def test_programs_need_none(self, by):
        row = Purchase.objects.create(state="held")

        row.state_send("cancel", by=by)

        assert stored(row).state == "rejected"

    def test_that_of_the_state_decides(self, user):
        """Another state's edge of the same name may be taken by everybody."""
        row = Purchase.objects.create()

        row.state_send("cancel", by=user)

        assert row.state == "rejected"

    def test_a_method_of_the_graph(self, user):
        own = Purchase.objects.create(state="held", owner="ann", amount=5)
        others = Purchase.objects.create(state="held", owner="bob", amount=5)

        own.state_send("approve", by=user)

        assert own.note == "approve by ann: ;"  # the second transition: the first is not permitted
        assert refusal(others, "approve", by=user).reason == "permission"

    def test_what_is_permitted_may_still_be_untrue(self, boss):
        row = Purchase.objects.create(state="held", amount=1000)

        assert refusal(row, "approve", by=boss).reason == "condition"

    def test_one_that_turns_out_to_be_async_permits_nothing(self, user, monkeypatch):
        """A decorator has hidden that from the validation; a coroutine is always true."""
        monkeypatch.setattr(PurchaseStates, "is_owner", hidden_coroutine)
        row = Purchase.objects.create(state="held", amount=1000)

        for ask in (
            lambda: row.state_send("approve", by=user),
            lambda: row.state_submit("approve", by=user),
            lambda: row.state_events(user),
        ):
            with pytest.raises(TypeError) as caught:
                ask()
            assert str(caught.value) == (
                "The permission of on('approve') of <State PurchaseStates.held> is no async def, "
                "but returned an awaitable (coroutine), which was not run; write it, and what "
                "decorates it, with def."
            )
        assert stored(row).state == "held"

    def test_permissions_for_objects(self):
        class Sender:
            def has_perm(self, permission: str, row: Any = None) -> bool:
                return permission == "tests.cancel_purchase" and row is not None

        row = Purchase.objects.create(state="held")

        row.state_send("cancel", by=Sender())

        assert row.state == "rejected"

    @pytest.mark.parametrize("trigger", ["cancel", "remark"])
    def test_somebody_who_is_no_user(self, trigger):
        row = Purchase.objects.create(state="held")

        for ask in (lambda: row.state_send(trigger, by=7), lambda: row.state_events(7)):
            with pytest.raises(TypeError) as caught:
                ask()
            assert str(caught.value) == (
                "by=7 is neither a user nor the name of a program; give one, or None."
            )

    def test_a_user_of_a_model_without_permissions(self):
        row, sender = Purchase.objects.create(state="held", owner="ann"), Plain()

        row.state_send("remark", by=sender)
        with pytest.raises(TypeError, match=r"and <ann> has no has_perm\(\); give by= a user"):
            row.state_send("cancel", by=sender)


@pytest.mark.django_db
class TestOffers:
    def test_what_the_row_takes(self, boss):
        row = Purchase.objects.create(state="held", amount=7, owner="ann")

        offers = row.state_events(boss)

        assert [(each.trigger, str(each.target), each.reason) for each in offers] == [
            ("approve", "approved", None),
            ("pay", "approved", "condition"),
            ("cancel", "rejected", None),
            ("remark", "None", None),
        ]
        assert [str(each.user_message) for each in offers[:2]] == [
            "",
            "What this needs is not fulfilled yet.",
        ]
        assert (offers[0].label, offers[2].label) == ("approve", "Call it off")
        assert offers[2].permission == "tests.cancel_purchase"
        assert (offers[1].form_class.__name__, offers[0].form_class) == ("PayForm", None)

    def test_it_looks_at_the_database(self):
        row = Purchase.objects.create()
        Purchase.objects.update(state="done")

        assert [each.trigger for each in row.state_events()] == ["remark"]

    def test_a_state_that_this_build_does_not_know(self):
        row = Purchase.objects.create()
        QuerySet(Purchase).update(state=Value("older"))

        assert row.state_events() == []

    def test_conditions_take_one_query(self):
        row = Purchase.objects.create(state="held")

        with CaptureQueriesContext(connection) as queries:
            row.state_events()

        assert len(queries) == 2

    def test_for_async_code(self):
        row = Purchase.objects.create()

        offers = async_to_sync(row.astate_events)("job")

        assert [each.trigger for each in offers if each.allowed] == ["cancel", "hold", "poke"]


class TestWhileARunnerHoldsTheRow:
    @pytest.fixture(autouse=True)
    def database(self, transactional_db) -> None:
        """No transaction: on SQLite nobody else could write meanwhile."""

    @pytest.fixture
    def pauses(self, monkeypatch) -> list[float]:
        made: list[float] = []
        monkeypatch.setattr("django_fsmworker.models.stator_model.time.sleep", made.append)
        return made

    def held(self) -> Any:
        Purchase.objects.create()
        (row,) = Purchase.state_get_ready(1, 30)
        return row

    def test_it_waits_until_the_row_is_free(self, monkeypatch):
        row = self.held()

        def settle(pause: float) -> None:
            store_for("default").hand_back(Purchase, [Fence.of(row)])

        monkeypatch.setattr("django_fsmworker.models.stator_model.time.sleep", settle)

        assert Purchase.objects.get().state_send("hold") is PurchaseStates.held

    def test_for_as_long_as_it_may(self, pauses):
        row = Purchase.objects.get(pk=self.held().pk)

        error = refusal(row, "hold", wait=0)

        assert (error.reason, pauses) == ("running", [])
        assert str(error) == (
            f"tests.Purchase {row.pk} does not take hold in open now: a runner holds it for its "
            f"check. Try again, wait longer, or declare the event with interrupts=True."
        )

    def test_it_does_not_wait_for_what_the_state_does_not_take(self, pauses):
        row = Purchase.objects.get(pk=self.held().pk)

        assert (refusal(row, "ship").reason, pauses) == ("source_state", [])

    def test_a_lease_that_has_run_out_holds_nothing(self, pauses):
        row = self.held()
        Purchase.objects.update(state_lease=F("state_changed"))

        row.state_send("hold")

        assert (stored(row).state, pauses) == ("held", [])

    def test_an_event_that_interrupts(self, pauses):
        row = Purchase.objects.get(pk=self.held().pk)
        token: Any = row.state_claim

        row.state_send("cancel")

        assert (row.state, row.state_claim, pauses) == ("rejected", -1 - token, [])
        assert stored(row).state_lease == row.state_lease is not None

    def test_an_event_that_interrupts_and_moves_nothing(self, pauses):
        row = Purchase.objects.get(pk=self.held().pk)
        token: Any = row.state_claim

        row.state_send("poke")

        assert (row.state, row.state_claim, row.note) == ("open", -1 - token, "poke by None: ;")
        assert (stored(row).state_claim, pauses) == (-1 - token, [])

    def test_in_a_transaction_that_would_keep_the_runner_out(self, vendor, pauses):
        row = Purchase.objects.get(pk=self.held().pk)

        with transaction.atomic():
            error = refusal(row, "hold", wait=0 if vendor != "sqlite" else 5)

        assert (error.reason, pauses) == ("running", [])

    def test_async_code_waits(self, monkeypatch):
        row = self.held()

        async def settle(pause: float) -> None:
            await Purchase.objects.aupdate(state_lease=None, state_claim=None)

        monkeypatch.setattr("django_fsmworker.models.stator_model.asyncio.sleep", settle)

        assert async_to_sync(Purchase.objects.get().astate_send)("hold") is PurchaseStates.held
        assert stored(row).state == "held"


@pytest.mark.django_db(transaction=True)
class TestOnceOnly:
    @pytest.mark.longer
    def test_two_threads_that_send_the_same_events(self, pytestconfig):
        """Each event has its effect once, and is refused once."""
        number = 1000 if pytestconfig.getoption("long") else 30
        Purchase.objects.bulk_create(Purchase(state="held", amount=1) for _ in range(number))

        def send_all() -> list[str]:
            refused: list[str] = []
            for row in Purchase.objects.order_by("pk"):
                try:
                    row.state_send("pay", amount=1)
                except NotAllowed as error:
                    refused.append(error.reason)
            return refused

        threads = [DatabaseThread(send_all), DatabaseThread(send_all)]
        for thread in threads:
            thread.start()
        refused = [reason for thread in threads for reason in thread.result(300)]

        assert refused == ["source_state"] * number
        assert list(Purchase.objects.values_list("paid", flat=True)) == [1] * number
        assert {len(row.state_history) for row in Purchase.objects.all()} == {2}

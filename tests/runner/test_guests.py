"""User code is a guest: whatever it leaves behind, the next check or receiver does not find it."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import Signal
from django.utils import timezone, translation

from django_fsmworker.models import Event
from django_fsmworker.signals import check_failed, row_expired, state_changed
from tests.app.models import Account, CheckLog, Delivery, Endpoint, Errand, Expiring, Trouble
from tests.app.models.accounts import ACTIONS
from tests.app.models.errands import ERRANDS
from tests.runner.embedded import one_pass
from tests.runner.rows import entered, failure, reason, states
from tests.runner.sessions import change_session, session_is_changed

pytestmark = pytest.mark.django_db(transaction=True)

Mode = Callable[..., None]

TENANT = contextvars.ContextVar("tenant", default="")
PRISTINE = (settings.LANGUAGE_CODE, settings.TIME_ZONE, "", 28)


def surroundings() -> tuple[str, str, str, int]:
    """What code finds around it."""
    precision = decimal.getcontext().prec
    return translation.get_language(), timezone.get_current_timezone_name(), TENANT.get(), precision


def litter() -> None:
    """Change all of that for whoever comes next."""
    translation.activate("de")
    timezone.activate("Asia/Tokyo")
    TENANT.set("somebody")
    decimal.getcontext().prec = 3


@contextmanager
def received(signal: Signal, sender: Any, receive: Callable[..., Any]) -> Iterator[None]:
    signal.connect(receive, sender=sender)
    try:
        yield
    finally:
        signal.disconnect(receive, sender=sender)


def looped(work: Callable[[], Any]) -> Callable[[Any], str]:
    """A plain check that runs ``work`` on a loop of its own."""

    def check(row: Any) -> str:
        asyncio.run(work())
        return "done"

    return check


def troubles(number: int, mode: str) -> list[Trouble]:
    return Trouble.objects.bulk_create(Trouble(mode=mode) for _ in range(number))


def errands(number: int, mode: str) -> list[Errand]:
    return Errand.objects.bulk_create(Errand(mode=mode) for _ in range(number))


def expired(number: int) -> list[Expiring]:
    rows = [Expiring.objects.create(state="gone") for _ in range(number)]
    for row in rows:
        entered(row, 11)
    return rows


class TestContexts:
    def test_of_checks_on_a_thread(self, mode: Mode) -> None:
        found = []

        def check(row: Trouble) -> str:
            found.append(surroundings())
            litter()
            return "done"

        mode("litter", check)
        troubles(3, "litter")

        one_pass(Trouble, concurrency=1)

        assert found == [PRISTINE] * 3

    def test_of_calls_of_async_checks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In an executor without a context of its own, too, whose threads all checks share."""
        found = []

        def call() -> None:
            found.append(surroundings())
            litter()

        async def check(row: Errand) -> str:
            found.append(surroundings())
            litter()
            await asyncio.get_running_loop().run_in_executor(None, call)
            return "done"

        monkeypatch.setitem(ERRANDS, "litter", check)
        errands(3, "litter")

        one_pass(Errand, async_threads=1)

        assert found == [PRISTINE] * 6

    def test_of_receivers(self) -> None:
        found = []

        def receive(**said: Any) -> None:
            found.append(surroundings())
            litter()

        troubles(3, "succeed")
        troubles(3, "raise")
        with received(state_changed, Trouble, receive), received(check_failed, Trouble, receive):
            one_pass(Trouble)

        assert found == [PRISTINE] * 6

    def test_of_receivers_of_deletions(self) -> None:
        found = []

        def receive(**said: Any) -> None:
            found.append(surroundings())
            litter()

        expired(3)
        with received(pre_delete, Expiring, receive), received(row_expired, Expiring, receive):
            one_pass(Expiring, delete_batch=1)

        assert not Expiring.objects.exists()
        assert found == [PRISTINE] * 6


class TestSessions:
    def test_of_checks(self, mode: Mode) -> None:
        found = []

        def check(row: Trouble) -> str:
            found.append(session_is_changed())
            change_session()
            found.append(session_is_changed())
            return "done"

        mode("litter", check)
        rows = troubles(3, "litter")

        one_pass(Trouble, concurrency=1)

        assert found == [False, True] * 3
        assert set(states(rows)) == {"done"}

    def test_of_checks_whose_transition_is_in_their_transaction(self, mode: Mode) -> None:
        found = []

        def check(row: Trouble) -> str:
            found.append(session_is_changed())
            change_session()
            return "done"

        mode("litter", check)
        rows = [Trouble.objects.create(state="strict", mode="litter") for _ in range(3)]

        one_pass(Trouble, concurrency=1)

        # SQLite keeps this one as it was until a transaction ends.
        assert found == [False] * 3
        assert set(states(rows)) == {"done"}

    def test_of_calls_of_async_checks_at_the_same_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A change lasts for the call that makes it: another check's call may be the next."""
        found = []

        def call() -> None:
            found.append(session_is_changed())
            change_session()
            found.append(session_is_changed())

        async def check(row: Errand) -> str:
            for _ in range(3):
                await sync_to_async(call)()
            return "done"

        monkeypatch.setitem(ERRANDS, "litter", check)
        rows = errands(4, "litter")

        one_pass(Errand, async_threads=1)

        assert found == [False, True] * 12
        assert set(states(rows)) == {"done"}

    def test_others_read_on_when_one_changes_the_session(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read, changed = [], asyncio.Event()

        async def check(row: Errand) -> str:
            if row.value:
                async for each in CheckLog.objects.order_by("pk").aiterator(chunk_size=1):
                    read.append(each.row)
                    await changed.wait()
            else:
                await sync_to_async(change_session)()
                changed.set()
            return "done"

        monkeypatch.setitem(ERRANDS, "read", check)
        for number in range(3):
            CheckLog.objects.create(row=str(number), state="", worker="", at=0)
        rows = [Errand.objects.create(mode="read", value=value) for value in (1, 0)]

        one_pass(Errand, async_threads=1)

        assert read == ["0", "1", "2"]
        assert set(states(rows)) == {"done"}

    @pytest.mark.postgresql  # elsewhere Django's cursor has no procedures, or nothing to set by one
    def test_of_a_procedure_that_is_called(self, mode: Mode) -> None:
        found = []

        def check(row: Trouble) -> str:
            found.append(session_is_changed())
            with connection.cursor() as cursor:
                cursor.callproc("set_config", ["app.tenant", "somebody", False])
            return "done"

        mode("litter", check)
        troubles(3, "litter")

        one_pass(Trouble, concurrency=1)

        assert found == [False] * 3

    def test_wrappers_of_statements_do_not_stay(self, mode: Mode) -> None:
        """``execute_wrapper()`` takes its own off; nobody does what was appended to the list."""

        def refuse(*args: Any) -> None:
            raise RuntimeError("no statements today")

        def check(row: Trouble) -> str:
            Trouble.objects.count()
            connection.execute_wrappers.append(refuse)
            return "done"

        mode("litter", check)
        rows = troubles(3, "litter")

        one_pass(Trouble, concurrency=1)

        assert set(states(rows)) == {"done"}

    def test_wrappers_that_come_with_the_connection_stay(self, mode: Mode) -> None:
        counted = []

        def count(execute: Any, *args: Any) -> Any:
            counted.append(args[1])
            return execute(*args)

        def install(connection: Any, **kwargs: Any) -> None:
            connection.execute_wrappers.append(count)

        def check(row: Trouble) -> str:
            Trouble.objects.filter(value=77).count()
            return "done"

        mode("count", check)
        troubles(3, "count")
        connection_created.connect(install)
        try:
            one_pass(Trouble, concurrency=1)
        finally:
            connection_created.disconnect(install)

        assert counted.count((77,)) == 3

    def test_a_connection_that_is_closed_behind_djangos_back(self, mode: Mode) -> None:
        def check(row: Trouble) -> str:
            Trouble.objects.count()
            connection.connection.close()
            return "done"

        mode("close", check)
        rows = troubles(3, "close")

        one_pass(Trouble, concurrency=1)

        assert set(states(rows)) == {"done"}

    @pytest.mark.parametrize("sql", ["COMMIT", "/* now */ rollback work"])
    def test_a_transaction_is_not_ended_behind_djangos_back(self, mode: Mode, sql: str) -> None:
        def check(row: Trouble) -> str:
            with connection.cursor() as cursor:
                cursor.execute(sql)
            return "done"

        mode("end", check)
        row = Trouble.objects.create(state="strict", mode="end")

        one_pass(Trouble)

        assert states([row]) == ["strict"]
        assert not CheckLog.objects.exists()
        assert f": {sql} was sent inside of transaction.atomic(), which" in reason(row)

    def test_a_savepoint_may_be_gone_back_to_by_sql(self, mode: Mode) -> None:
        def check(row: Trouble) -> str:
            with connection.cursor() as cursor:
                for sql in ("SAVEPOINT here", "ROLLBACK TO SAVEPOINT here", "rollback to here"):
                    cursor.execute(sql)
            return "done"

        mode("back", check)
        row = Trouble.objects.create(state="strict", mode="back")

        one_pass(Trouble)

        assert states([row]) == ["done"]

    def test_of_a_database_that_a_check_has_added(self, mode: Mode) -> None:
        added = []

        def check(row: Trouble) -> str:
            connections.databases["added"] = connection.settings_dict
            own = connections["added"]
            added.append(own.connection)
            own.connect()
            own.set_autocommit(False)
            return "done"

        mode("add", check)
        rows = troubles(3, "add")

        try:
            one_pass(Trouble, concurrency=1)
        finally:
            del connections.databases["added"]

        assert set(states(rows)) == {"done"}
        assert added == [None] * 3

    def test_what_the_orm_sends_keeps_the_connection(self, mode: Mode) -> None:
        sessions = []

        def check(row: Trouble) -> str:
            row.value += 1
            row.save()
            CheckLog.objects.filter(row="nobody").delete()
            sessions.append(connection.connection)
            return "done"

        mode("plain", check)
        troubles(5, "plain")

        one_pass(Trouble, concurrency=1)

        assert len(sessions) == 5
        assert all(each is sessions[0] for each in sessions)

    def test_of_receivers(self) -> None:
        found = []

        def receive(**said: Any) -> None:
            found.append(session_is_changed())
            change_session()

        troubles(3, "succeed")
        expired(3)
        with (
            received(state_changed, Trouble, receive),
            received(pre_delete, Expiring, receive),
            received(row_expired, Expiring, receive),
        ):
            one_pass(Trouble, Expiring, delete_batch=1)

        assert found == [False] * 9


class TestReceivers:
    @pytest.mark.parametrize("how", ["behind Django's back", "with Django's knowledge"])
    def test_what_is_reported_is_committed(
        self, how: str, start_runner: Callable[..., Any], eventually: Callable[..., Any]
    ) -> None:
        def receive(**said: Any) -> None:
            if how == "with Django's knowledge":
                connection.set_autocommit(False)
            else:
                with connection.cursor() as cursor:
                    cursor.execute("BEGIN")
            Trouble.objects.filter(pk=said["pk"]).count()

        with received(state_changed, Trouble, receive):
            runner = start_runner(Trouble)
            rows = troubles(1, "succeed")
            eventually(lambda: runner.total("moved") == 1)
            rows += troubles(3, "succeed")
            eventually(lambda: runner.total("moved") == 4)

            assert set(states(rows)) == {"done"}

    def test_one_that_ends_the_transaction_tells_of_no_row_that_is_there(self) -> None:
        told = []

        def receive(instance: Any, **said: Any) -> None:
            if instance == rows[1]:
                with connection.cursor() as cursor:
                    cursor.execute("ROLLBACK")

        rows = expired(3)
        with (
            received(post_delete, Expiring, receive),
            received(row_expired, Expiring, lambda pk, **said: told.append(pk)),
        ):
            one_pass(Expiring)

        assert sorted(told) == [rows[0].pk, rows[2].pk]
        assert Expiring.objects.get() == rows[1]
        assert "ROLLBACK was sent inside of transaction.atomic()" in reason(rows[1])

    def test_of_rows_that_guards_have_moved(self) -> None:
        found = []

        def receive(**said: Any) -> None:
            found.append(surroundings())
            litter()
            connection.set_autocommit(False)

        removed = Endpoint.objects.create(removed=True)
        rows = [Delivery.objects.create(state="held", endpoint=removed) for _ in range(2)]
        with received(state_changed, Delivery, receive):
            one_pass(Delivery)

        assert set(states(rows)) == {"gone"}
        assert found == [PRISTINE] * 2

    def test_one_that_ends_threads_keeps_no_other_signal_back(self) -> None:
        told = []

        def receive(**said: Any) -> None:
            told.append(said["pk"])
            raise SystemExit(1)

        rows = troubles(3, "succeed")
        with received(state_changed, Trouble, receive):
            one_pass(Trouble)

        assert sorted(told) == sorted(row.pk for row in rows)


class TestLoopsOfPlainChecks:
    """``asyncio.run()`` in a check that is not async, and the ORM below it."""

    def test_a_broken_connection_does_not_stay(self, mode: Mode) -> None:
        threads: set[str] = set()
        broken: list[Any] = []

        def note() -> None:
            threads.add(threading.current_thread().name)
            if not broken:
                broken.append(connection.connection)
                connection.ensure_connection()
                connection.connection.close()

        async def work() -> int:
            await sync_to_async(note)()
            return await Trouble.objects.acount()

        mode("loop within", looped(work))
        rows = troubles(4, "loop within")

        one_pass(Trouble, concurrency=1)
        one_pass(Trouble, concurrency=1)

        assert all(name.startswith("fsmworker-call-") for name in threads), threads
        assert states(rows).count("done") >= 3
        assert len([row for row in rows if failure(row)]) <= 1

    def test_their_threads_are_few(self, mode: Mode) -> None:
        threads = set()

        async def work() -> None:
            await sync_to_async(lambda: threads.add(threading.current_thread().name))()
            await Trouble.objects.acount()

        mode("loop within", looped(work))
        rows = troubles(20, "loop within")

        one_pass(Trouble, concurrency=8, async_threads=2)

        assert set(states(rows)) == {"done"}
        assert 1 <= len(threads) <= 2, threads

    def test_a_transaction_left_open_is_a_failure(self, mode: Mode) -> None:
        async def work() -> None:
            await sync_to_async(lambda: connection.set_autocommit(False))()

        mode("loop within", looped(work))
        (row,) = troubles(1, "loop within")

        one_pass(Trouble)

        assert "transaction" in reason(row)

    def test_a_call_that_overruns_is_ended(
        self, mode: Mode, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its deadline comes in the call: on a slow machine a short one would come on the way."""
        state = Trouble.state_graph.states["new"]
        monkeypatch.setattr(state, "deadline", 60)

        def never() -> None:
            state.deadline = 0.1
            while True:
                pass

        mode("loop within", looped(sync_to_async(never)))
        (row,) = troubles(1, "loop within")

        runner = one_pass(Trouble, task_deadline=0.3)

        assert runner.counters.total("overran") == 1
        assert reason(row).startswith("django_fsmworker.exceptions.TimeoutError: ")

    def test_async_to_sync_stays_on_the_thread_of_the_check(self, mode: Mode) -> None:
        threads = []

        async def work() -> None:
            await sync_to_async(lambda: threads.append(threading.current_thread().name))()

        def check(row: Trouble) -> str:
            async_to_sync(work)()
            return "done"

        mode("loop within", check)
        troubles(1, "loop within")

        one_pass(Trouble)

        assert threads[0].startswith("fsmworker-check-")


class TestActionsOfEvents:
    """Those of several rows are called in one transaction of one call of the engine's check."""

    @pytest.fixture
    def sent(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
        """Have ``action`` called for two events of each of three rows."""

        def send(action: Callable[..., Any]) -> None:
            monkeypatch.setitem(ACTIONS, "test", action)
            for row in Account.objects.bulk_create(Account() for _ in range(3)):
                for _ in range(2):
                    row.state_submit("call", context={"mode": "test"})

        return send

    @pytest.mark.parametrize("kind", ["plain", "async"])
    def test_do_not_find_what_another_s_context_has(self, sent: Any, kind: str) -> None:
        found = []

        def act(row: Any, event: Any) -> None:
            found.append(surroundings())
            litter()

        sent(act if kind == "plain" else async_to_sync(sync_to_async(act)))
        one_pass(Account, concurrency=1)

        assert found == [PRISTINE] * 6

    def test_do_not_find_what_another_s_session_has(self, sent: Any) -> None:
        found = []

        def act(row: Any, event: Any) -> None:
            found.append(session_is_changed())
            change_session()

        sent(act)
        one_pass(Account, concurrency=1)

        assert found == [False] * 6
        assert set(Event.objects.values_list("state", flat=True)) == {"delivered"}

    @pytest.mark.postgresql  # elsewhere nothing is set for a transaction
    def test_do_not_find_what_another_s_transaction_has(self, sent: Any) -> None:
        found = []

        def act(row: Any, event: Any) -> None:
            with connection.cursor() as cursor:
                found.append(session_is_changed())
                cursor.execute("SET LOCAL app.tenant = 'somebody'")

        sent(act)
        one_pass(Account, concurrency=1)

        assert found == [False] * 6
        assert set(Event.objects.values_list("state", flat=True)) == {"delivered"}

    def test_what_follows_the_commit_changes_no_end(self, sent: Any) -> None:
        called = []

        def fail() -> None:
            raise RuntimeError("the postman is ill")

        def act(row: Any, event: Any) -> None:
            transaction.on_commit(fail)
            transaction.on_commit(lambda: called.append(event.id))

        sent(act)
        one_pass(Account)

        assert sorted(called) == sorted(Event.objects.values_list("pk", flat=True))
        assert set(Event.objects.values_list("state", "state_failures")) == {("delivered", 0)}

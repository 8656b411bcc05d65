"""What async checks call in threads: how many connections that takes, and how it is ended."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import DatabaseError, connection, transaction
from django.db.backends.signals import connection_created

from django_fsmworker.runner.database.connections import ThreadConnections
from django_fsmworker.runner.executors.call_threads import Calls
from tests.app.models import Errand
from tests.app.models.errands import ERRANDS
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import failure, fresh, reason, states
from tests.runner.server import Server

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]
Errands = Callable[..., None]

OVERRAN = "django_fsmworker.exceptions.TimeoutError: The check did not end within its deadline; "


@pytest.fixture
def errand(monkeypatch: pytest.MonkeyPatch) -> Errands:
    def define(name: str, check: Callable[[Errand], Awaitable[Any]]) -> None:
        monkeypatch.setitem(ERRANDS, name, check)

    return define


@pytest.fixture
def callers() -> Iterator[list[str]]:
    """The names of the call threads that opened a connection, one for each."""
    names: list[str] = []

    def opened(**kwargs: Any) -> None:
        name = threading.current_thread().name
        if name.startswith(("fsmworker-call", "ThreadPool", "asyncio")):
            names.append(name)

    connection_created.connect(opened)
    yield names
    connection_created.disconnect(opened)


def errands(number: int, mode: str, **values: Any) -> list[Errand]:
    return Errand.objects.bulk_create(Errand(mode=mode, **values) for _ in range(number))


def commit_beside() -> None:
    """Write and commit on a connection of another thread."""

    def write() -> None:
        Errand.objects.filter(state="done").update(mode="x")
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()


def plain(seconds: float) -> None:
    time.sleep(seconds)


class TestConnections:
    def test_sixty_checks_share_a_few(self, errand: Errands, callers: list[str]) -> None:
        async def work(row: Errand) -> str:
            found = await Errand.objects.aget(pk=row.pk)
            found.value = await Errand.objects.filter(mode="work").acount()
            await found.asave()
            return "done"

        errand("work", work)
        rows = errands(60, "work")

        one_pass(Errand, async_threads=3)

        assert set(states(rows)) == {"done"}
        assert set(Errand.objects.values_list("value", flat=True)) == {60}
        assert 1 <= len(callers) <= 3, callers
        assert len(set(callers)) == len(callers), "a thread keeps its connection"

    def test_so_do_calls_that_are_not_thread_sensitive(
        self, errand: Errands, callers: list[str]
    ) -> None:
        async def work(row: Errand) -> str:
            count = sync_to_async(Errand.objects.count, thread_sensitive=False)
            assert await count() == 50
            assert await asyncio.to_thread(Errand.objects.count) == 50
            return "done"

        errand("work", work)
        rows = errands(50, "work")

        one_pass(Errand, async_threads=2)

        assert set(states(rows)) == {"done"}
        assert len(callers) <= 2, callers

    def test_and_the_tasks_that_a_check_starts(self, errand: Errands, callers: list[str]) -> None:
        async def work(row: Errand) -> str:
            counts = await asyncio.gather(*(Errand.objects.acount() for _ in range(5)))
            assert counts == [20] * 5
            return "done"

        errand("work", work)
        rows = errands(20, "work")

        one_pass(Errand, async_threads=2)

        assert set(states(rows)) == {"done"}
        assert len(callers) <= 2, callers

    def test_one_check_reads_while_another_writes(self, errand: Errands) -> None:
        """What one reads bit by bit keeps no other from writing on the connection of both."""
        reading = asyncio.Event()
        written = asyncio.Event()

        async def work(row: Errand) -> str:
            if row.value:
                await reading.wait()
                await row.asave()
                written.set()
                return "done"
            async for _ in Errand.objects.order_by("pk").aiterator(chunk_size=3):
                if not reading.is_set():
                    await sync_to_async(commit_beside)()
                    reading.set()
                await written.wait()
            return "done"

        errand("work", work)
        errands(30, "work", state="done")
        rows = [*errands(1, "work"), *errands(1, "work", value=1)]

        one_pass(Errand, async_threads=1)

        assert set(states(rows)) == {"done"}

    def test_a_queryset_that_is_read_bit_by_bit(self, errand: Errands) -> None:
        async def work(row: Errand) -> str:
            seen = 0
            async for _ in Errand.objects.order_by("pk").aiterator(chunk_size=3):
                seen += 1
                await asyncio.sleep(0)
            row.value = seen
            await row.asave()
            return "done"

        errand("work", work)
        rows = errands(30, "work")

        one_pass(Errand, async_threads=2)

        assert set(states(rows)) == {"done"}
        assert set(Errand.objects.values_list("value", flat=True)) == {30}

    def test_calls_of_one_check_go_to_one_thread_and_those_of_many_to_all(
        self, errand: Errands
    ) -> None:
        seen: dict[Any, set[int]] = {}

        async def work(row: Errand) -> str:
            seen[row.pk] = set()
            while len(seen) < 4:  # so that there are many
                await asyncio.sleep(0.005)
            for _ in range(5):
                ident = await sync_to_async(threading.get_ident)()
                seen[row.pk].add(ident)
                await asyncio.sleep(0.01)
            return "done"

        errand("work", work)
        errands(40, "work")

        one_pass(Errand, async_threads=4)

        assert {len(idents) for idents in seen.values()} == {1}
        assert len({ident for idents in seen.values() for ident in idents}) == 4

    def test_sync_code_that_awaits_async_code_that_calls_the_orm(self, errand: Errands) -> None:
        async def count() -> int:
            return await Errand.objects.acount()

        async def work(row: Errand) -> str:
            assert await sync_to_async(lambda: async_to_sync(count)())() == 10
            return "done"

        errand("work", work)
        rows = errands(10, "work")

        one_pass(Errand, async_threads=2)

        assert set(states(rows)) == {"done"}

    def test_the_orm_on_the_loop_s_own_thread_is_refused_by_django(self, errand: Errands) -> None:
        async def wrong(row: Errand) -> str:
            row.save()
            return "done"

        errand("wrong", wrong)
        (row,) = errands(1, "wrong")

        one_pass(Errand)

        assert reason(row).startswith("django.core.exceptions.SynchronousOnlyOperation: You cannot")


class TestTransactions:
    def test_within_one_call_they_are_as_everywhere(self, errand: Errands) -> None:
        @sync_to_async
        def write(row: Errand) -> None:
            with transaction.atomic():
                Errand.objects.filter(pk=row.pk).update(value=5)

        async def work(row: Errand) -> str:
            await write(row)
            return "done"

        errand("work", work)
        rows = errands(10, "work")

        one_pass(Errand)

        assert set(Errand.objects.values_list("state", "value")) == {("done", 5.0)}
        assert set(states(rows)) == {"done"}

    def test_one_that_is_left_open_is_rolled_back_and_fails_its_row_only(
        self, errand: Errands
    ) -> None:
        @sync_to_async
        def begin(row: Errand) -> None:
            connection.set_autocommit(False)
            Errand.objects.filter(pk=row.pk).update(value=99)

        async def leave(row: Errand) -> str:
            await begin(row)
            return "done"

        async def work(row: Errand) -> str:
            await Errand.objects.filter(pk=row.pk).aupdate(value=1)
            return "done"

        errand("leave", leave)
        errand("work", work)
        (bad,), good = errands(1, "leave"), errands(10, "work")

        one_pass(Errand, async_threads=1)

        assert "TransactionLeftOpen" in reason(bad)
        assert fresh(bad).value == 0
        assert {(fresh(row).state, fresh(row).value) for row in good} == {("done", 1.0)}

    def test_a_database_error_spoils_nothing_for_the_next(self, errand: Errands) -> None:
        @sync_to_async
        def break_it() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT nonsense FROM nowhere")

        async def breaks(row: Errand) -> str:
            await break_it()
            return "done"

        async def work(row: Errand) -> str:
            assert await Errand.objects.acount()
            return "done"

        errand("breaks", breaks)
        errand("work", work)
        bad, good = errands(3, "breaks"), errands(10, "work")

        one_pass(Errand, async_threads=1)

        assert set(states(good)) == {"done"}
        for row in bad:
            assert fresh(row).state_failures == 1
            record = failure(row)
            assert record and issubclass(eval_error(record.error), DatabaseError)


def eval_error(path: str) -> Any:
    import importlib

    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


class TestDeadlines:
    def test_python_code_in_a_thread_is_interrupted(
        self, start_runner: Start, eventually: Eventually, errand: Errands
    ) -> None:
        ended: list[str] = []

        def loop() -> None:
            try:
                while True:
                    pass
            finally:
                ended.append("interrupted")

        async def spin(row: Errand) -> str:
            await sync_to_async(loop)()
            return "done"

        async def work(row: Errand) -> str:
            await Errand.objects.acount()
            return "done"

        errand("spin", spin)
        errand("work", work)
        (bad,) = errands(1, "spin")
        start_runner(Errand, deadline=1.5, abandon_after=5, async_threads=1)
        eventually(lambda: fresh(bad).state_failures == 1)
        good = errands(5, "work")

        eventually(lambda: set(states(good)) == {"done"})
        assert reason(bad).startswith(OVERRAN)
        assert ended == ["interrupted"]

    def test_a_call_that_a_thread_has_taken_and_not_begun_does_not_begin(
        self,
        start_runner: Start,
        eventually: Eventually,
        errand: Errands,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        begun: list[Any] = []
        taken, unwanted = threading.Event(), threading.Event()
        drop, interrupt = ThreadConnections.drop_older_than, Calls.interrupt

        def drop_late(self: ThreadConnections, moment: Any) -> None:
            if threading.current_thread().name.startswith("fsmworker-call"):
                taken.set()
                assert unwanted.wait(30)
            drop(self, moment)

        def interrupt_first(self: Calls) -> None:
            interrupt(self)
            unwanted.set()

        async def work(row: Errand) -> str:
            await sync_to_async(lambda: begun.append(row.pk))()
            return "done"

        errand("work", work)
        monkeypatch.setattr(ThreadConnections, "drop_older_than", drop_late)
        monkeypatch.setattr(Calls, "interrupt", interrupt_first)
        (bad,) = errands(1, "work")
        start_runner(Errand, deadline=0.3, abandon_after=30, async_threads=1)
        assert taken.wait(30)

        eventually(lambda: fresh(bad).state_failures == 1)
        assert reason(bad).startswith(OVERRAN)
        assert begun == []

    def test_the_exception_that_ends_a_call_without_a_caller_is_nobody_s_to_log(
        self,
        start_runner: Start,
        eventually: Eventually,
        errand: Errands,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        gc.collect()  # what earlier tests have left is not this one's
        caplog.clear()
        gone = threading.Event()

        async def leave(row: Errand) -> str:
            try:
                await sync_to_async(gone.wait)(20)
            finally:
                gone.set()
            return "done"

        errand("leave", leave)
        (row,) = errands(1, "leave")
        runner = start_runner(Errand, deadline=0.3, abandon_after=5)
        eventually(lambda: fresh(row).state_failures == 1)
        runner.stop()

        gc.collect()

        assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []

    def test_a_stuck_thread_is_replaced_and_its_row_kept(
        self, start_runner: Start, eventually: Eventually, errand: Errands
    ) -> None:
        released = threading.Event()

        async def hang(row: Errand) -> str:
            await sync_to_async(released.wait)(60)
            return "done"

        async def work(row: Errand) -> str:
            await Errand.objects.acount()
            return "done"

        errand("hang", hang)
        errand("work", work)
        (bad,) = errands(1, "hang")
        runner = start_runner(Errand, deadline=1.5, abandon_after=0.1, async_threads=1)
        eventually(lambda: runner.runner.status().event_loop.abandoned == 1)
        good = errands(5, "work")

        eventually(lambda: set(states(good)) == {"done"})
        assert fresh(bad).state_claim is not None, "its thread still runs"
        released.set()
        eventually(lambda: fresh(bad).state_failures == 1)
        assert reason(bad).startswith(OVERRAN)

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_statement_that_waits_is_cancelled(
        self,
        start_runner: Start,
        eventually: Eventually,
        errand: Errands,
        locked: Callable[[Any], Any],
    ) -> None:
        held = Errand.objects.create(state="failed")

        async def wait(row: Errand) -> str:
            await Errand.objects.filter(pk=held.pk).aupdate(value=1)
            return "done"

        errand("wait", wait)
        with locked(held):
            bad = errands(3, "wait")
            start_runner(Errand, deadline=0.3, abandon_after=2, async_threads=2)
            eventually(lambda: all(fresh(row).state_failures for row in bad))

        for row in bad:
            assert reason(row).startswith(OVERRAN)

    @pytest.mark.mysql
    def test_a_connection_that_is_being_opened_is_closed(
        self,
        start_runner: Start,
        eventually: Eventually,
        errand: Errands,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        opened: list[socket.socket] = []
        settled = threading.Event()
        connect = socket.socket.connect

        def connect_slowly(self: socket.socket, address: Any) -> None:
            connect(self, address)
            if threading.current_thread().name.startswith(("fsmworker-call", "fsmworker-open")):
                opened.append(self)
                while not settled.is_set():
                    time.sleep(0.01)

        async def count(row: Errand) -> str:
            await Errand.objects.acount()
            return "done"

        errand("count", count)
        (row,) = errands(1, "count")
        monkeypatch.setattr(socket.socket, "connect", connect_slowly)
        # Time enough to begin to open one.
        runner = start_runner(Errand, deadline=1.5, abandon_after=30)

        eventually(lambda: fresh(row).state_failures == 1)
        settled.set()
        runner.stop()
        assert opened
        eventually(lambda: all(each.fileno() == -1 for each in opened))


class TestOutages:
    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_a_connection_that_is_lost_under_a_check_is_an_interruption(
        self, start_runner: Start, eventually: Eventually, errand: Errands, server: Server
    ) -> None:
        tries: list[Any] = []

        @sync_to_async
        def lose() -> None:
            with connection.cursor() as cursor:
                cursor.execute(server.end_this_connection)

        async def check(row: Errand) -> str:
            tries.append(row.pk)
            if len(tries) == 1:
                await lose()
            await Errand.objects.acount()
            return "done"

        errand("lose", check)
        (row,) = errands(1, "lose")
        runner = start_runner(Errand)

        eventually(lambda: fresh(row).state == "done")
        assert failure(row) is None
        assert runner.total("failed") == 0

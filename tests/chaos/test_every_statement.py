"""Whatever the engine sends: it was done, and the answer to it is lost, once for each place in it.

A place is a way through the package's functions, and what is sent at its end. They are found as
they come, since a list of them would be out of date with the next one; the functions through which
some of them have to go are listed, so that nothing goes untried unnoticed.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from django.db.backends.signals import connection_created
from django.db.models import Sum

import django_fsmworker
from django_fsmworker import clock
from django_fsmworker.models.records import FailureRecord, StatorLog
from django_fsmworker.runner import housekeeping
from tests.app.models import Attachment, Chain, CheckLog, Delivery, Expiring, Trouble
from tests.app.models.deliveries import Endpoint, Receipt
from tests.chaos.faults import lose
from tests.chaos.fleet import PATH
from tests.database.rows import put
from tests.runner.embedded import Embedded
from tests.runner.rows import failure, fresh, lapse, path, states
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

PACKAGE = Path(django_fsmworker.__file__).parent
OF_CHECKS = Path(__file__).parents[1] / "app"
# Every statement passes through it where it was there before these faults, and none where it came
# after them: it is in no place.
ON_THE_WAY = PACKAGE / "store" / "session_watch.py"
CHAINS, CONCURRENCY, LEASE = 12, 4, 1.0

# Three functions of the package and the one that sends tell a place from the others.
FRAMES = 4
HAVE_TO_BE_TRIED = {
    "claim", "peek", "settle", "advance", "renew", "hand_back", "still_held",  # the protocol's
    "record", "forget", "resolve_failures", "count_deaths", "deaths_of",  # of failures
    "first_true", "next_window", "sweep", "moments", "with_overdue_rows",  # of guards
    "keys_and_states",  # of rows that are locked
    "_delete", "write_summaries", "_purge", "drop_orphans", "drop_old",  # of housekeeping
    "probe", "rescue_stranded", "refusals", "shortcomings",  # before the start
}  # fmt: skip


class LostReplies:
    """The first answer for each place; the main thread's and those of a check's own are spared."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.lost: set[str] = set()
        self.only = re.compile("")

    def watch(self, connection: Any, **kwargs: Any) -> None:
        """Called for every connection that is opened."""
        if threading.current_thread() is threading.main_thread():
            return
        if self.execute not in connection.execute_wrappers:
            connection.execute_wrappers.append(self.execute)
        if not isinstance(connection._commit, partial):  # it may have been opened before
            connection._commit = partial(self._run, connection, "COMMIT", connection._commit)

    def execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        verb = re.sub(r"\W+", " ", sql).split()[0].upper()
        return self._run(context["connection"], verb, execute, sql, params, many, context)

    def _run(
        self, connection: Any, verb: str, function: Callable[..., Any], *arguments: Any
    ) -> Any:
        result = function(*arguments)
        if self._is_first(verb):
            lose(connection)
        return result

    def _is_first(self, verb: str) -> bool:
        place = place_of_caller()
        with self._lock:
            if place is None or not self.only.search(place) or f"{place} {verb}" in self.lost:
                return False
            self.lost.add(f"{place} {verb}")
            return True


def place_of_caller() -> str | None:
    """The innermost functions of the package that are being run; None for what a check sends."""
    frame: FrameType | None = sys._getframe()
    place: list[str] = []
    while frame:
        folder = folder_of(frame.f_code.co_filename)
        if folder == OF_CHECKS:
            return None
        if folder == PACKAGE:
            place.insert(0, frame.f_code.co_name)
        frame = frame.f_back
    return " > ".join(place[-FRAMES:]) or None


@cache
def folder_of(file: str) -> Path | None:
    """Which of the two folders that matter here the file is in."""
    if Path(file) == ON_THE_WAY:
        return None
    return next((each for each in (OF_CHECKS, PACKAGE) if each in Path(file).parents), None)


@contextmanager
def lost_replies() -> Iterator[LostReplies]:
    """On every connection that a thread opens while the ``with`` block runs."""
    replies = LostReplies()
    connection_created.connect(replies.watch)
    try:
        yield replies
    finally:
        connection_created.disconnect(replies.watch)


class Work:
    """Something to do for every part of a runner, and what it has to come to."""

    def __init__(self) -> None:
        self.chains = Chain.objects.bulk_create(Chain(pause=0.05) for _ in range(CHAINS))
        self.long, self.stranded = Chain.objects.create(pause=LEASE), Chain.objects.create()
        put(self.stranded, state_next=None)
        self.lapsed, self.strict = Trouble.objects.create(), Trouble.objects.create(state="strict")
        lapse([self.lapsed])
        self.failing = Trouble.objects.create(mode="raise")
        paused, live = Endpoint.objects.create(paused=True), Endpoint.objects.create()
        self.held = Delivery.objects.create(endpoint=paused)
        self.freed = Delivery.objects.create(endpoint=live, state="held")
        self.signed = Delivery.objects.create(state="signing", amount=5000)
        Receipt.objects.create(delivery=self.signed, signed=True)
        self.late = Delivery.objects.create(endpoint=paused, state="held")
        put(self.late, state_changed=timedelta(seconds=-601), state_next=timedelta())
        self.expired = Expiring.objects.create(state="gone")
        Attachment.objects.create(row=self.expired)
        put(self.expired, state_changed=timedelta(seconds=-11))
        old = clock.now() - timedelta(days=100)
        StatorLog.objects.create(model="old", worker="old", since=old, until=old)

    def is_done(self) -> bool:
        """But for the summaries, which are written when the runner stops at the latest."""
        return (
            set(states([*self.chains, self.long, self.stranded])) == {"last"}
            and states([self.lapsed, self.strict]) == ["done", "done"]
            and states([self.held, self.late]) == ["held", "gone"]
            and states([self.freed, self.signed]) == ["delivered", "delivered"]
            and not Expiring.objects.exists()
            and failure(self.failing) is not None
            and not StatorLog.objects.filter(model="old").exists()
        )

    def prove_once_each(self) -> None:
        chains = [*self.chains, self.long, self.stranded]
        assert {tuple(path(row)) for row in chains} == {tuple(PATH)}
        assert path(self.lapsed) == ["new", "done"]
        assert path(self.strict) == ["strict", "done"]
        assert CheckLog.objects.filter(worker="strict").count() == 1
        assert path(self.held) == ["pending", "held"]
        assert path(self.freed) == ["held", "pending", "delivered"]
        assert path(self.signed) == ["signing", "delivered"]
        assert path(self.late) == ["held", "gone"]
        logged = [self.lapsed, self.strict, self.held, self.freed, self.signed, self.late]
        for row in logged:
            assert [entry.target for entry in row.state_log] == path(row)[1:]
        assert not Attachment.objects.exists()
        noted = failure(self.failing)
        assert noted is not None
        assert (noted.count, noted.deaths, fresh(self.failing).state_failures) == (1, 0, 1)
        assert not FailureRecord.objects.exclude(pk=noted.pk).filter(resolved=None).exists()
        assert not Chain.objects.failing().exists()


@pytest.mark.timeout(300)
def test_the_first_answer_from_every_place_is_lost(
    start_runner: Callable[..., Embedded],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    vendor: str,
) -> None:
    monkeypatch.setattr(housekeeping, "SUMMARY_INTERVAL", 0.3)
    monkeypatch.setattr(housekeeping, "PURGE_INTERVAL", 0.3)
    for model in (Delivery, Trouble):
        monkeypatch.setattr(model, "log_transitions", True)
    work = Work()

    with lost_replies() as replies:
        runner = start_runner(
            Chain, Trouble, Delivery, Expiring,
            concurrency=CONCURRENCY, lease=LEASE, delete_interval=0.1, connect_timeout=30,
        )  # fmt: skip
        eventually(work.is_done, 60, every=0.2)  # it asks for a dozen things
        work.prove_once_each()
        in_line = Chain.objects.bulk_create(Chain(pause=0.3) for _ in range(30))
        eventually(lambda: Chain.objects.running().count() > CONCURRENCY)  # some wait for a slot
        runner.stop()

    with capsys.disabled():
        print(f"\nlost on {vendor}: {len(replies.lost)} answers")
    functions = {name for place in replies.lost for name in re.findall(r"\w+", place)}
    assert HAVE_TO_BE_TRIED - functions == set(), "\n".join(sorted(replies.lost))
    assert not Chain.objects.running().exists()
    assert {tuple(path(row)) for row in in_line} <= {tuple(PATH[:steps]) for steps in range(1, 5)}


@pytest.mark.timeout(300)
def test_a_summary_whose_answer_is_lost_is_not_counted_twice(
    start_runner: Callable[..., Embedded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "SUMMARY_INTERVAL", 0.2)
    rows = Chain.objects.bulk_create(Chain(logged=False, pause=0.02) for _ in range(60))

    with lost_replies() as replies:
        replies.only = re.compile("write_summaries")
        runner = start_runner(Chain)
        eventually(lambda: set(states(rows)) == {"last"}, 30)
        eventually(lambda: replies.lost)
        runner.stop()

    moved = StatorLog.objects.aggregate(moved=Sum("moved"))["moved"]
    assert moved == runner.total("moved") == 180

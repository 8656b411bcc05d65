"""Rows that somebody else makes due are run long before the next poll."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from django_fsmworker import clock
from django_fsmworker.models import BulkAction
from django_fsmworker.models import hints as sending
from django_fsmworker.models.companions import is_companion
from django_fsmworker.models.hints import Hint
from django_fsmworker.runner import hints as hearing
from django_fsmworker.runner.guards.sweeper import Sweeper
from django_fsmworker.store.hints.postgresql import PostgreSQLHints, PostgreSQLListener
from tests.app.models import Chain, Noop, Trouble
from tests.runner.embedded import Embedded, one_pass
from tests.runner.processes import Process
from tests.runner.rows import fresh, states
from tests.runner.statement_log import statements
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

LONG = 30.0
SOON = 12.0  # below the half of LONG that is left at least, and patient with a busy machine


@pytest.fixture
def start_hearing(start_runner: Callable[..., Embedded]) -> Callable[..., Embedded]:
    """A runner that polls every half a minute and hears hints."""

    def start(*models: Any, **options: Any) -> Embedded:
        embedded = start_runner(*models, **{"poll_interval": LONG, **options})
        eventually(lambda: embedded.runner.hints.active, 30)
        at_rest(embedded)
        return embedded

    return start


def at_rest(embedded: Embedded) -> None:
    """Wait until it has looked at everything, hints have nothing more to ask, and it sleeps."""
    claimer = embedded.runner.parts.claimer
    looks = [look for each in embedded.runner.hints._threads for look in each._looks.values()]
    eventually(
        lambda: (
            not any(look.asked or look.again_at < float("inf") for look in looks)
            and claimer.exhausted
            and claimer.seconds_to_wait() > LONG / 2
        ),
        30,
    )


@pytest.fixture
def said() -> Iterator[Said]:
    """The hints that are sent while the test runs, by whomever."""
    sending._quiet_until.clear()
    listener = PostgreSQLListener("default")
    yield Said(listener)
    listener.close()
    sending._quiet_until.clear()  # after an error a sender is silent for seconds


class Said:
    def __init__(self, listener: PostgreSQLListener) -> None:
        self._listener = listener
        self._heard: list[str] = []

    def hear(self) -> list[str]:
        """Everything so far, probes aside: what has been sent arrives before one sent now."""
        probe = Hint.probe()
        notify = "SELECT pg_notify('django_fsmworker', %s)"
        self._listener._raw.execute(notify, [probe.encode()])

        def has_arrived() -> bool:
            some = self._listener.wait(1)
            self._heard += [each.encode() for each in some if each and not each.is_probe]
            return probe in some

        eventually(has_arrived, 30)
        return self._heard


def hinted(test: Any) -> Any:
    """Of databases that have hints; MariaDB and MySQL have none."""
    return pytest.mark.postgresql(pytest.mark.sqlite(test))


class TestWakeUp:
    @hinted
    def test_a_new_row_is_run_soon(self, start_hearing, start_thread):
        start_hearing(Noop)

        row = start_thread(Noop.objects.create).result()

        eventually(lambda: states([row]) == ["done"], SOON)

    @hinted
    def test_rows_of_another_process_are_run_soon(self, start_hearing, start_process):
        start_hearing(Noop)

        code = (
            "from tests.app.models import Noop; Noop.objects.bulk_create(Noop() for _ in range(3))"
        )
        process = start_process("shell", "-c", code)
        assert process.wait(60) == 0, process.stderr

        eventually(lambda: states(list(Noop.objects.all())) == ["done"] * 3, SOON)

    @hinted
    def test_another_process_runs_it(self, start_process: Callable[..., Process]):
        process = start_process("runstator", "tests.Noop", "--poll-interval", str(LONG))
        eventually(lambda: process.started, 60)
        eventually(lambda: "arrive" in process.stderr or listeners() or on_sqlite(), 30)

        row = Noop.objects.create()

        eventually(lambda: states([row]) == ["done"], SOON)

    @hinted
    @pytest.mark.parametrize("how", ["save", "transition", "queryset"])
    def test_a_row_moved_by_hand(self, how, start_hearing, start_thread):
        row = Trouble.objects.create(state="waiting")
        start_hearing(Trouble)

        start_thread(move, row, how).result()

        eventually(lambda: states([row]) == ["done"], SOON)

    @hinted
    def test_a_row_that_is_due_soon(self, start_hearing, start_thread):
        row = Trouble.objects.create(state="waiting")
        start_hearing(Trouble)

        start_thread(due_in, row, 0.3).result()

        eventually(lambda: states([row]) == ["failed"], SOON)

    @hinted
    def test_rows_that_are_due_soon_one_after_the_other(self, start_hearing, start_thread):
        rows = [Trouble.objects.create(state="waiting") for _ in range(3)]
        start_hearing(Trouble)

        for row, seconds in zip(rows, (0.2, 0.4, 0.6), strict=True):
            start_thread(due_in, row, seconds).result()

        eventually(lambda: states(rows) == ["failed"] * 3, SOON)

    @hinted
    def test_the_last_of_many_is_run_soon(self, start_hearing, start_thread):
        start_hearing(Noop, concurrency=2)

        start_thread(create_one_by_one, 300).result()

        eventually(lambda: not Noop.objects.exclude(state="done").exists(), SOON)

    @hinted
    def test_a_row_committed_in_the_quiet_after_a_hint(self, start_hearing, start_thread):
        start_hearing(Noop)

        rows = start_thread(lambda: [Noop.objects.create(), Noop.objects.create()]).result()

        eventually(lambda: states(rows) == ["done"] * 2, SOON)

    def test_with_hints_off_a_runner_is_not_woken(self, start_runner, start_thread):
        embedded = start_runner(Noop, poll_interval=LONG, hints=False)
        at_rest(embedded)

        row = start_thread(Noop.objects.create).result()

        assert not embedded.runner.hints.active
        assert embedded.runner.hints.received == 0
        assert states([row]) == ["new"]

    @pytest.mark.mysql
    def test_a_database_without_hints_is_polled(self, start_runner, start_thread, caplog):
        caplog.set_level("INFO")
        embedded = start_runner(Noop, poll_interval=0.5)
        eventually(lambda: embedded.runner.status().exhausted)

        row = start_thread(Noop.objects.create).result()

        eventually(lambda: states([row]) == ["done"], SOON)
        assert not embedded.runner.hints.active
        assert (embedded.runner.hints.received, embedded.runner.hints.sent) == (0, 0)
        assert (
            caplog.messages.count(
                "The database 'default' has no hints; what other processes make due is found by "
                "polling."
            )
            == 1
        )

    def test_one_pass_does_not_listen(self):
        runner = one_pass(Noop)

        assert not runner.hints.active


def move(row: Any, how: str) -> None:
    if how == "save":
        row.state = "new"
        row.save()
    elif how == "transition":
        row.state_transition("new")
    else:
        Trouble.state_transition_queryset(Trouble.objects.all(), "new")


def due_in(row: Any, seconds: float) -> None:
    """Let the timeout of a waiting row come in so many seconds."""
    row.state_changed = clock.now() - timedelta(seconds=60)
    row.state_next = clock.now() + timedelta(seconds=seconds)
    row.save()


def create_one_by_one(number: int) -> None:
    for _ in range(number):
        Noop.objects.create()


def on_sqlite() -> bool:
    return connection.vendor == "sqlite"


def listeners() -> int:
    """How many connections to this database listen."""
    if on_sqlite():
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE query LIKE 'LISTEN%%' AND datname = current_database()"
        )
        return int(cursor.fetchone()[0])


class Undo(Exception):
    pass


@pytest.mark.postgresql
class TestSending:
    """What is sent, and when. (On SQLite nothing is.)"""

    def test_a_new_row_sends_one(self, said):
        Noop.objects.create()

        assert said.hear() == ["tests.Noop now"]

    def test_after_the_commit(self, said):
        with transaction.atomic():
            Noop.objects.create()
            before = list(said.hear())

        assert before == []
        assert said.hear() == ["tests.Noop now"]

    def test_once_a_transaction(self, said):
        with transaction.atomic():
            for _ in range(20):
                Noop.objects.create()
            callbacks = len(connection.run_on_commit)

        assert callbacks == 1
        assert said.hear() == ["tests.Noop now"]

    def test_a_transaction_rolled_back_sends_nothing(self, said):
        with pytest.raises(Undo), transaction.atomic():
            Noop.objects.create()
            raise Undo

        assert said.hear() == []

    def test_a_savepoint_rolled_back_sends_nothing_for_it(self, said):
        with transaction.atomic():
            Chain.objects.create()
            with pytest.raises(Undo), transaction.atomic():
                Noop.objects.create()
                raise Undo

        assert said.hear() == ["tests.Chain now"]

    def test_a_row_created_again_after_its_savepoint_was_rolled_back(self, said):
        with transaction.atomic():
            with pytest.raises(Undo), transaction.atomic():
                Noop.objects.create()
                raise Undo
            Noop.objects.create()

        assert said.hear() == ["tests.Noop now"]

    def test_a_thousand_rows_send_few(self, said):
        began = time.monotonic()
        create_one_by_one(1000)
        windows = (time.monotonic() - began) / sending.WINDOW

        assert 1 <= len(said.hear()) <= windows + 1

    def test_bulk_create_sends_one_hint(self, said):
        Noop.objects.bulk_create(Noop() for _ in range(100))

        assert said.hear() == ["tests.Noop now"]

    def test_a_state_that_nobody_runs_sends_nothing(self, said):
        Noop.objects.create(state="done")

        assert said.hear() == []

    def test_a_due_time_beyond_the_poll_sends_nothing(self, said):
        row = Trouble.objects.create(state="waiting")

        assert said.hear() == []  # its timeout comes in 30 s

        due_in(row, 1)
        assert said.hear() == ["tests.Trouble soon"]

    def test_a_plain_save_sends_nothing(self, said):
        row = Trouble.objects.create(state="waiting")
        row.value = 3
        row.save()

        assert said.hear() == []

    def test_a_row_checked_by_hand(self, said):
        row = Chain.objects.create()
        said.hear().clear()
        sending._quiet_until.clear()

        row.state_transition_check()

        assert said.hear() == ["tests.Chain now"]

    def test_with_hints_off_none_is_sent(self, said, settings):
        settings.FSMWORKER = {"HINTS": False}

        Noop.objects.create()

        assert said.hear() == []

    def test_settings_that_cannot_be_read_send_nothing(self, said, settings):
        settings.FSMWORKER = {"HINTS": "perhaps"}

        Noop.objects.create()

        assert said.hear() == []

    def test_nothing_inside_a_transaction_begun_behind_djangos_back(self, said):
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            Noop.objects.create()
            cursor.execute("COMMIT")
        assert said.hear() == []

        Noop.objects.create()
        assert said.hear() == ["tests.Noop now"]

    def test_an_error_does_not_reach_the_user(self, said, monkeypatch, caplog):
        monkeypatch.setattr(
            "django_fsmworker.store.hints.postgresql.NOTIFY", "SELECT no_such_function(%s, %s)"
        )
        caplog.set_level(logging.DEBUG, "django_fsmworker.models.hints")

        Noop.objects.create()
        Noop.objects.create()

        assert said.hear() == []
        assert [record.action for record in caplog.records] == ["hint"]
        assert Noop.objects.count() == 2

    def test_no_query_of_the_user_s(self, said, django_assert_num_queries):
        with django_assert_num_queries(1):
            Noop.objects.create()

        assert said.hear() == ["tests.Noop now"]

    def test_with_autocommit_off_none_is_sent(self, said):
        transaction.set_autocommit(False)
        try:
            Noop.objects.create()
            transaction.commit()
        finally:
            transaction.set_autocommit(True)

        assert said.hear() == []


@pytest.mark.postgresql
class TestListening:
    def test_it_proves_that_a_session_lasts(self, start_hearing, start_runner):
        hearing, silent = start_hearing(Noop), start_runner(Chain, hints=False)

        assert hearing.runner.stores[Noop].session_lasts()
        assert not silent.runner.stores[Chain].session_lasts()

    def test_a_connection_that_was_ended_is_opened_again(self, start_hearing, start_thread):
        embedded = start_hearing(Noop)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE query LIKE 'LISTEN%%' AND datname = current_database()"
            )
        eventually(lambda: not embedded.runner.hints.active)
        row = Noop.objects.create()

        eventually(lambda: embedded.runner.hints.active)
        eventually(lambda: states([row]) == ["done"], SOON)
        at_rest(embedded)
        row = Noop.objects.create()
        eventually(lambda: states([row]) == ["done"], SOON)

    def test_a_database_that_was_away(self, start_hearing, server):
        embedded = start_hearing(Noop)

        with server.away():
            eventually(lambda: not embedded.runner.hints.active)

        eventually(lambda: embedded.runner.hints.active, 20)

    def test_a_deaf_connection_is_noticed_and_polling_carries_on(
        self, start_runner, monkeypatch, caplog
    ):
        caplog.set_level(logging.INFO, "django_fsmworker.runner.hints")
        listen = PostgreSQLHints.listen
        monkeypatch.setattr(PostgreSQLHints, "listen", lambda source: Deaf(source.alias))
        monkeypatch.setattr(hearing, "PROBE_PATIENCE", 0.2)
        monkeypatch.setattr(hearing, "PROBE_INTERVAL", 0.3)
        embedded = start_runner(Noop, poll_interval=0.3)
        eventually(lambda: caplog.records)

        row = Noop.objects.create()

        eventually(lambda: states([row]) == ["done"])
        assert not embedded.runner.hints.active
        assert [record.getMessage() for record in caplog.records] == [
            "Hints of the database 'default' do not arrive (what is sent to this connection does "
            "not arrive); what other processes make due is found by polling."
        ]

        monkeypatch.setattr(PostgreSQLHints, "listen", listen)  # it is tried as often as before
        eventually(lambda: embedded.runner.hints.active)
        eventually(lambda: caplog.records[-1].action == "hints_on")

    def test_a_server_that_refuses_to_listen(self, start_runner, monkeypatch, caplog):
        caplog.set_level(logging.INFO, "django_fsmworker.runner.hints")
        monkeypatch.setattr("django_fsmworker.store.hints.postgresql.CHANNEL", "not a name")
        embedded = start_runner(Noop)

        eventually(lambda: caplog.records)

        assert not embedded.runner.hints.active
        assert caplog.records[0].action == "hints_off"

    def test_hints_sent_and_received_are_counted(self, start_hearing):
        embedded = start_hearing(Noop)
        sending._quiet_until.clear()
        before = embedded.runner.hints.received, embedded.runner.hints.sent

        Noop.objects.create()

        eventually(lambda: embedded.runner.hints.received == before[0] + 1)
        assert embedded.runner.hints.sent == before[1] + 1

    def test_what_does_not_concern_it(self, start_hearing):
        embedded = start_hearing(Noop)

        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify('django_fsmworker', 'elsewhere.Model now')")
            cursor.execute("SELECT pg_notify('django_fsmworker', '')")
            cursor.execute("SELECT pg_notify('django_fsmworker', 'tests.Noop soon')")

        eventually(lambda: embedded.runner.hints.received)
        assert embedded.runner.hints.received == 1

    def test_each_runner_listens_once_beside_its_other_connections(self, start_hearing):
        eventually(lambda: not listeners(), 30)  # the server takes leave of earlier ones

        start_hearing(Noop)

        assert listeners() == 1

    def test_a_hint_costs_few_statements(self, start_hearing):
        def of_rows() -> list[str]:
            # The first round of housekeeping, on a thread of its own, may go on meanwhile.
            return [sql for sql in sent.sent[before:] if "tests_noop" in sql or "pg_notify" in sql]

        with statements() as sent:
            embedded = start_hearing(Noop)
            at_rest(embedded)
            before = len(sent)
            connection.close()
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify('django_fsmworker', 'tests.Noop now')")
            eventually(lambda: len(of_rows()) >= 2)  # the hint, and the look that follows
            at_rest(embedded)

        assert len(of_rows()) <= 4


class Sender:
    """Any role that can connect: it sends what it likes, each message in a transaction of its own.

    (Equal messages of one transaction arrive once.)
    """

    def __init__(self) -> None:
        wrapper: Any = connection
        self._raw = wrapper.Database.connect(**wrapper.get_connection_params(), autocommit=True)
        self._raw.execute("SET synchronous_commit = off")

    def send(self, *messages: str) -> None:
        for message in messages:
            self._raw.execute("SELECT pg_notify('django_fsmworker', %s)", [message])

    def close(self) -> None:
        self._raw.close()


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender()
    yield sender
    sender.close()


FLOOD = 5000
UNKNOWN = ["", "*", "* never", "* now ", "tests.Noop", "? x", "\x1b[2J", "\N{SNOWMAN}", "x" * 7999]


@pytest.mark.postgresql
class TestWhatAnybodySends:
    """A role that can connect can send anything, and as much as it likes."""

    @pytest.mark.parametrize("urgency", ["now", "soon"])
    def test_a_hint_for_every_model_wakes_them_all(self, urgency, start_hearing, sender):
        embedded = start_hearing(Noop, Trouble)
        rows = [Noop(), Trouble(mode="by_name")]
        with transaction.atomic():
            for row in rows:
                row.save()
            connection.run_on_commit.clear()

        sender.send(f"* {urgency}")

        eventually(lambda: [fresh(row).state for row in rows] == ["done"] * 2, SOON)
        assert embedded.runner.hints.active
        assert embedded.runner.hints.unknown == 0

    def test_a_sweep_for_every_model_sweeps_them_all(self, start_hearing, sender, monkeypatch):
        swept = []
        monkeypatch.setattr(Sweeper, "hinted", lambda sweeper, model: swept.append(model))
        hints = start_hearing(Noop, Trouble).runner.hints
        swept.clear()
        before, began = hints.received, time.monotonic()

        sender.send(*["* sweep"] * 1000)

        eventually(lambda: hints.received == before + 1000, 30)
        eventually(lambda: {Noop, Trouble} <= set(swept))  # which follows
        windows = (time.monotonic() - began) / sending.WINDOW + hearing.BURST
        swept = [each for each in swept if not is_companion(each)]  # of bulk actions for them
        assert set(swept) == {Noop, Trouble}
        # One in a window follows the hints, and one the end of a window in which none came.
        assert len(swept) <= 2 * 2 * (windows + 1)
        assert hints.active

    def test_what_is_no_hint_is_ignored_and_counted(self, start_hearing, sender, caplog):
        embedded = start_hearing(Noop)
        row = Noop(state="new")
        received = embedded.runner.hints.received
        caplog.set_level(logging.DEBUG, "django_fsmworker")
        caplog.clear()

        sender.send(*UNKNOWN)

        eventually(lambda: embedded.runner.hints.unknown == len(UNKNOWN))
        assert embedded.runner.hints.received == received
        assert embedded.runner.hints.active
        assert not [each for each in caplog.records if each.name.endswith("hints")]
        row.save()
        eventually(lambda: states([row]) == ["done"], SOON)

    def test_bytes_that_cannot_be_decoded_are_no_error(self, start_hearing, sender, monkeypatch):
        """As a database in SQL_ASCII passes them on."""
        parsed = []
        monkeypatch.setattr(Hint, "parse", lambda text: parsed.append(text))
        listener = PostgreSQLListener("default")
        listener._arrived.append(b"\xff\xfe now")

        assert listener.wait(0) == [None]
        assert parsed == ["\N{REPLACEMENT CHARACTER}" * 2 + " now"]
        listener.close()

    @pytest.mark.parametrize(
        "message", ["* now", "* soon", "* sweep", "tests.Noop now", "tests.Noop soon", "unknown"]
    )
    def test_a_flood_causes_at_most_one_look_in_a_window(
        self, message, start_hearing, sender, caplog
    ):
        with statements() as sent:
            embedded = start_hearing(Noop, Trouble)
            hints = embedded.runner.hints
            caplog.set_level(logging.DEBUG, "django_fsmworker")
            caplog.clear()
            arrived, before = hints.received + hints.unknown, len(sent)
            began = time.monotonic()

            sender.send(*[message] * FLOOD)
            eventually(lambda: hints.received + hints.unknown == arrived + FLOOD, 30)
            at_rest(embedded)
            windows = (time.monotonic() - began) / sending.WINDOW + hearing.BURST

        # A look is a claim from each model, or a question for both. One that begins while the
        # lanes of a hint are being woken is followed by another, so there are two in a window at
        # the most. (Bulk actions for the models are claimed as often.)
        looks = [
            each
            for each in sent.sent[before:]
            if not (each.lstrip().startswith("WITH") and BulkAction._meta.db_table in each)
        ]
        assert len(looks) <= 2 * 2 * (windows + 1)
        assert len(looks) < FLOOD / 2  # however slowly they came
        assert hints.active
        assert not [each for each in caplog.records if each.name.endswith("hints")]

    def test_a_row_is_run_during_a_flood(self, start_hearing, sender, start_thread):
        start_hearing(Noop)

        flood = start_thread(lambda: [sender.send(*["* now"] * 100) for _ in range(50)])
        row = Noop.objects.create()

        eventually(lambda: states([row]) == ["done"], SOON)
        flood.result()


class Deaf(PostgreSQLListener):
    """As a pooler in transaction mode makes it: LISTEN succeeds, and nothing ever comes."""

    def wait(self, timeout: float) -> list[Hint | None]:
        super().wait(timeout)
        return []

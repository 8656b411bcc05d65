"""The steps of "Add a life to an existing table", as its page has them, on a table with rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection, migrations, models, transaction
from django.db.migrations.state import ProjectState
from django.test.utils import isolate_apps

import testapp.models
from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.models.fields import ENGINE_COLUMNS
from django_fsmworker.models.indexes import index_name
from tests import documentation

pytestmark = pytest.mark.django_db(transaction=True)

Eventually = Callable[..., Any]

MANY, BATCH = 200_000, 1000
ONE_IN = 20  # of so many old rows is to have a life


class Legacy(migrations.Migration):
    operations = [
        migrations.CreateModel(
            "Order",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("payment_id", models.CharField(max_length=40)),
            ],
        )
    ]


LEGACY = Legacy("0001_initial", "shop")


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the page declares."""
    names: dict[str, Any] = {}
    for _, code in documentation.blocks(documentation.read("how-to/existing-table.md")):
        exec(code, names)
    return names


class Shop:
    """A project whose table has no life yet, and the migrations that give it one."""

    def __init__(self, page: dict[str, Any]) -> None:
        self.page = page
        with connection.schema_editor() as editor:
            self.state = LEGACY.apply(ProjectState(), editor)

    def migrate(self, name: str, before_commit: Callable[[], None] = lambda: None) -> None:
        migration = declared(self.page[name])
        with connection.schema_editor(atomic=migration.atomic) as editor:
            self.state = migration.apply(self.state, editor)
            before_commit()

    def add_index(self) -> None:
        """The second step; without waiting for nobody, where a database knows no such thing."""
        if connection.vendor == "postgresql":
            self.migrate("AddDueIndex")
            return
        [operation] = declared(self.page["AddDueIndex"]).operations
        plain = migrations.AddIndex("order", operation.index)  # type: ignore[attr-defined]
        with connection.schema_editor() as editor:
            before, self.state = self.state, self.state.clone()
            plain.state_forwards("shop", self.state)
            plain.database_forwards("shop", editor, before, self.state)

    @property
    def orders(self) -> Any:
        return self.state.apps.get_model("shop", "Order").objects.order_by("pk")

    def drop(self) -> None:
        with connection.schema_editor() as editor:
            editor.delete_model(self.state.apps.get_model("shop", "Order"))


@pytest.fixture
def shop(page: dict[str, Any]) -> Iterator[Shop]:
    shop = Shop(page)
    yield shop
    shop.drop()


def declared(migration: Any) -> migrations.Migration:
    made: migrations.Migration = migration(migration.__name__, "shop")
    return made


def execute(sql: str, *params: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall() if cursor.description else []


def insert_as_old_code_does() -> None:
    execute("INSERT INTO shop_order (payment_id) VALUES ('')")


class TestTheSteps:
    def test_old_rows_rest_and_new_ones_live(self, shop: Shop) -> None:
        for payment in ("", "pay-1"):
            shop.orders.create(payment_id=payment)

        shop.migrate("AddColumns")
        rest = list(shop.orders)
        insert_as_old_code_does()
        shop.add_index()
        new = shop.orders.last()
        shop.migrate("Backfill")
        woken, left, _ = shop.orders

        assert [(row.state, row.state_next) for row in rest] == [("kept", None)] * 2
        assert new.state == "new"
        assert new.state_next is not None
        assert (woken.state, left.state) == ("new", "kept")
        assert woken.state_next is not None
        assert left.state_next is None

    def test_nothing_happens_to_old_rows(self, page: dict[str, Any], shop: Shop) -> None:
        """Neither is a check run on them, nor are they deleted when they are old enough."""
        shop.orders.create(payment_id="pay-1")

        shop.migrate("AddColumns")

        resting = page["OrderStates"].states[shop.orders.get().state]
        assert not resting.automatic
        assert resting.delete_after is None
        assert resting.timeout_state is None

    @isolate_apps("testapp")
    def test_the_columns_are_those_of_the_model(self, page: dict[str, Any]) -> None:
        state = LEGACY.mutate_state(ProjectState())

        class Order(StatorModel):
            state = StateField(page["OrderStates"])

            class Meta:
                app_label = "testapp"

        declared(page["AddColumns"]).mutate_state(state, preserve=False)

        for column in set(ENGINE_COLUMNS) - {"state_history", "state_life_ends", "state_trace"}:
            migrated = state.models["shop", "order"].fields[column].deconstruct()
            of_model: Any = Order._meta.get_field(column)
            assert migrated[1:] == of_model.deconstruct()[1:], column

    def test_the_index_is_that_of_the_model(self, page: dict[str, Any]) -> None:
        [operation] = page["AddDueIndex"].operations
        due, *_ = testapp.models.Order._meta.indexes

        assert operation.index.deconstruct()[2] == {
            **due.deconstruct()[2],
            "name": index_name("shop_order", "due"),
        }

    def test_the_backfill_goes_in_batches_that_commit_by_themselves(self, shop: Shop) -> None:
        shop.orders.bulk_create(shop.orders.model(payment_id="") for _ in range(2500))
        shop.migrate("AddColumns")
        sizes: list[int] = []

        def note(run: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            result = run(sql, params, many, context)
            if sql.startswith("UPDATE"):
                assert not context["connection"].in_atomic_block
                sizes.append(context["cursor"].rowcount)
            return result

        with connection.execute_wrapper(note):
            shop.migrate("Backfill")

        assert sizes == [BATCH, BATCH, 500]
        due = shop.orders.values_list("state_next", flat=True).distinct().order_by("state_next")
        assert [(one - due[0]).total_seconds() for one in due] == [0, 10, 20]


class Writer:
    """Somebody who goes on updating old rows and inserting new ones as old code does.

    What would keep it waiting for ever is an error, and ends it. For how long it waits for a step
    is a matter of the machine: what a step may do meanwhile is asked of the database.
    """

    PATIENCE = "30s"

    def __init__(self) -> None:
        self.written = 0
        self.stop = threading.Event()

    def __call__(self) -> None:
        execute(f"SET lock_timeout = '{self.PATIENCE}'")
        while not self.stop.is_set():
            self.written += 1
            row = self.written * 7919 % MANY + 1
            execute("UPDATE shop_order SET payment_id = payment_id WHERE id = %s", row)
            if self.written % 100 == 0:
                execute("INSERT INTO shop_order (payment_id) VALUES ('pay')")


@pytest.mark.postgresql
@pytest.mark.timeout(300)
class TestNobodyWaits:
    @pytest.fixture
    def hold(self, start_thread: Callable[..., Any]) -> Callable[[], Any]:
        """``with hold():`` somebody has a transaction open that has updated a row."""

        @contextmanager
        def held() -> Iterator[None]:
            begun, end = threading.Event(), threading.Event()

            def transact() -> None:
                with transaction.atomic():
                    execute("UPDATE shop_order SET payment_id = 'pay' WHERE id = 1")
                    begun.set()
                    assert end.wait(60)

            thread = start_thread(transact)
            assert begun.wait(30)
            try:
                yield
            finally:
                end.set()
                thread.result()

        return held

    def write(self, start_thread: Callable[..., Any]) -> None:
        """A few writes to other rows, from a connection of their own that does not wait."""

        def update() -> None:
            execute("SET lock_timeout = '1s'")
            for row in range(2, 12):
                execute("UPDATE shop_order SET payment_id = 'pay' WHERE id = %s", row)
                insert_as_old_code_does()

        start_thread(update).result()

    def test_no_step_holds_up_writers_of_a_large_table(
        self, shop: Shop, start_thread: Callable[..., Any], eventually: Eventually
    ) -> None:
        execute(
            "INSERT INTO shop_order (payment_id) SELECT CASE WHEN n %% %s = 0 THEN '' ELSE "
            "'pay-' || n END FROM generate_series(1, %s) AS n",
            ONE_IN,
            MANY,
        )
        writer = Writer()
        thread = start_thread(writer)
        read: list[Any] = []

        def note_what_was_read() -> None:
            """By the transaction that lets nobody else use the table."""
            read.extend(
                execute(
                    "SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'shop_order'"
                )
            )

        def goes_on() -> None:
            """The writer has written since."""
            before = writer.written
            eventually(lambda: writer.written > before + 10 or not thread.is_alive(), 60)

        [[file]] = execute("SELECT pg_relation_filenode('shop_order')")
        goes_on()
        shop.migrate("AddColumns", note_what_was_read)
        goes_on()
        shop.add_index()
        goes_on()
        shop.migrate("Backfill")
        goes_on()
        writer.stop.set()
        thread.result()  # raises what ended the writer, a lock it had to wait for

        assert read == [(0,)]
        assert execute("SELECT pg_relation_filenode('shop_order')") == [(file,)]
        assert shop.orders.filter(state="new", pk__lte=MANY).count() == MANY // ONE_IN
        assert not shop.orders.filter(pk__lte=MANY, payment_id="").exclude(state="new").exists()

    def test_the_columns_give_up_behind_a_long_transaction(
        self, shop: Shop, hold: Callable[[], Any], start_thread: Callable[..., Any]
    ) -> None:
        shop.orders.bulk_create(shop.orders.model(payment_id="") for _ in range(20))

        with hold():
            execute("SET lock_timeout = '50ms'")  # as PGOPTIONS does
            with pytest.raises(OperationalError, match="lock timeout"):
                shop.migrate("AddColumns")
            execute("RESET lock_timeout")
            self.write(start_thread)
        shop.migrate("AddColumns")

        assert shop.orders.filter(state="kept").count() == 30

    def test_nobody_waits_behind_the_index_that_waits_for_a_transaction(
        self,
        shop: Shop,
        hold: Callable[[], Any],
        start_thread: Callable[..., Any],
        eventually: Eventually,
    ) -> None:
        shop.orders.bulk_create(shop.orders.model(payment_id="") for _ in range(20))
        shop.migrate("AddColumns")

        with hold():
            building = start_thread(shop.add_index)
            eventually(
                lambda: execute(
                    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                    "AND query LIKE 'CREATE INDEX CONCURRENTLY%%'"
                ),
                30,
            )
            self.write(start_thread)
        building.result()

        assert execute("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", NAME) == [
            (True,)
        ]


NAME = index_name("shop_order", "due")

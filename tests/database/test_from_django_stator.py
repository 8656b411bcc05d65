"""The migrations of "Move from django-stator", as its page has them, on tables with rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection, migrations, models
from django.db.migrations.state import ProjectState

import testapp.models
from django_fsmworker.models.fields import ENGINE_COLUMNS
from tests import documentation

pytestmark = pytest.mark.django_db(transaction=True)

LATER = datetime(2101, 1, 1, tzinfo=UTC)
BEFORE = datetime(2001, 1, 1, tzinfo=UTC)


def created(fields: list[Any], indexes: list[models.Index]) -> migrations.Migration:
    """The migration by which a project of the ancestor made its table."""
    key = ("id", models.BigAutoField(primary_key=True))
    state = ("state", models.CharField(max_length=100, default="new", choices=CHOICES))

    class Legacy(migrations.Migration):
        operations = [migrations.CreateModel("Order", [key, state, *fields], {"indexes": indexes})]

    return Legacy("0001_initial", "shop")


CHOICES = [(name, name) for name in ("new", "paid", "shipped", "failed")]
TAKAHE = created(
    [
        ("state_changed", models.DateTimeField(auto_now_add=True)),
        ("state_next_attempt", models.DateTimeField(blank=True, null=True)),
        ("state_locked_until", models.DateTimeField(blank=True, null=True, db_index=True)),
    ],
    [
        models.Index(
            fields=["state", "state_next_attempt", "state_locked_until"],
            name="ix_order_state_next",
        )
    ],
)
DJANGO_STATOR = created(
    [
        ("state_changed", models.DateTimeField(auto_now_add=True, db_index=True)),
        ("state_next", models.DateTimeField(blank=True, null=True, db_index=True)),
    ],
    [],
)


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the page declares."""
    names: dict[str, Any] = {}
    for _, code in documentation.blocks(documentation.read("how-to/from-django-stator.md")):
        exec(code, names)
    return names


class Shop:
    """A project with a table of the ancestor's, and the migrations of the page."""

    def __init__(self, initial: migrations.Migration, page: dict[str, Any]) -> None:
        self.page = page
        with connection.schema_editor() as editor:
            self.state = initial.apply(ProjectState(), editor)

    def migrate(self, name: str) -> None:
        migration = self.page[name](name, "shop")
        with connection.schema_editor(atomic=migration.atomic) as editor:
            self.state = migration.apply(self.state, editor)

    @property
    def orders(self) -> Any:
        return self.state.apps.get_model("shop", "Order").objects.order_by("pk")

    def drop(self) -> None:
        with connection.schema_editor() as editor:
            editor.delete_model(self.state.apps.get_model("shop", "Order"))


@pytest.fixture
def shop_of(page: dict[str, Any]) -> Iterator[Callable[[migrations.Migration], Shop]]:
    made: list[Shop] = []

    def make(initial: migrations.Migration) -> Shop:
        made.append(Shop(initial, page))
        return made[-1]

    yield make
    for shop in made:
        shop.drop()


def has_the_columns_of_the_model(shop: Shop) -> bool:
    migrated = shop.state.models["shop", "order"].fields
    own: Any = testapp.models.Order._meta
    return all(
        migrated[column].deconstruct()[1:] == own.get_field(column).deconstruct()[1:]
        for column in set(ENGINE_COLUMNS) - {"state_history", "state_life_ends", "state_trace"}
    )


class TestFromTakahe:
    OLD = (
        ("new", None),  # at once, said the ancestor
        ("new", LATER),
        ("paid", BEFORE),
        ("paid", None),
        ("shipped", None),
        ("failed", BEFORE),  # never, since there is nothing to do
    )

    @pytest.fixture
    def shop(self, shop_of: Callable[[migrations.Migration], Shop]) -> Shop:
        shop = shop_of(TAKAHE)
        for state, next_attempt in self.OLD:
            shop.orders.create(state=state, state_next_attempt=next_attempt)
        return shop

    def test_due_times_survive_and_null_is_translated(self, shop: Shop) -> None:
        shop.migrate("RenameColumns")
        shop.migrate("TranslateDueTimes")

        [at_once, later, due, paid, shipped, failed] = shop.orders
        now = datetime.now(UTC)
        assert BEFORE < at_once.state_next <= now
        assert later.state_next == LATER
        assert due.state_next == BEFORE
        assert BEFORE < paid.state_next <= now
        assert shipped.state_next is None
        assert failed.state_next is None

    def test_no_row_becomes_due_that_was_not(self, shop: Shop) -> None:
        """As when makemigrations drops the old column and adds one that is due now."""
        shop.orders.bulk_create(shop.orders.model(state="shipped") for _ in range(2500))

        shop.migrate("RenameColumns")
        shop.migrate("TranslateDueTimes")

        assert shop.orders.filter(state_next__lte=datetime.now(UTC)).count() == 3

    def test_states_stay_and_rows_are_free(self, shop: Shop) -> None:
        shop.orders.update(state_locked_until=LATER)

        shop.migrate("RenameColumns")
        shop.migrate("TranslateDueTimes")

        rows = shop.orders.values_list("state", "state_lease", "state_claim", "state_failures")
        assert list(rows) == [(state, None, None, 0) for state, _ in self.OLD]

    def test_the_columns_are_those_of_the_model(self, shop: Shop) -> None:
        shop.migrate("RenameColumns")

        assert has_the_columns_of_the_model(shop)

    def test_automatic_states_are_those_of_the_graph(self, page: dict[str, Any]) -> None:
        graph = testapp.models.Order.state_graph

        assert set(page["AUTOMATIC"]) == {state.name for state in graph.automatic_states}


class TestFromDjangoStator:
    def test_due_times_survive(self, shop_of: Callable[[migrations.Migration], Shop]) -> None:
        shop = shop_of(DJANGO_STATOR)
        for state, due in (("new", BEFORE), ("new", LATER), ("shipped", None)):
            shop.orders.create(state=state, state_next=due)

        shop.migrate("KeepColumns")

        assert list(shop.orders.values_list("state_next", flat=True)) == [BEFORE, LATER, None]
        assert has_the_columns_of_the_model(shop)

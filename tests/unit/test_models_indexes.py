"""How the indexes are called."""

from __future__ import annotations

import pytest

from django_fsmworker.models.indexes import index_name


class TestIndexName:
    @pytest.mark.parametrize(
        "table",
        ["a", "shop_order", "x" * 100, "_hidden", "7days", '"schema"."table"', "größe", "_"],
    )
    @pytest.mark.parametrize("purpose", ["due", "expiry"])
    def test_is_a_name_that_every_database_takes(self, table, purpose):
        name = index_name(table, purpose)

        assert len(name) <= 30
        assert name.endswith(f"_{purpose}")
        assert name[0] not in "_0123456789"
        assert all(letter.isalnum() or letter == "_" for letter in name)

    def test_differs_between_tables_that_begin_alike(self):
        names = {index_name(f"{'x' * 40}{number}", "due") for number in range(100)}

        assert len(names) == 100

    def test_differs_between_states(self):
        names = {index_name("shop_order", "swept", state) for state in ("", "new", "paid")}

        assert len(names) == 3

    def test_the_same_table_has_the_same_name(self):
        assert index_name("testapp_order", "due") == index_name("testapp_order", "due")

"""Every kind of model of ``tests.app.models.kinds``, and rows of it as a project makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.db.models import Model, QuerySet

from django_fsmworker.models.keys import key_of
from tests.app.models import (
    BigKind,
    ChildKind,
    CompositeKind,
    GrandchildKind,
    InvoiceKind,
    LabelledKind,
    Leaf,
    ManagedKind,
    ParentKind,
    ProxyKind,
    RelatedKind,
    Reminder,
    RoutedKind,
    TextKind,
    UUIDKind,
)


@dataclass(frozen=True)
class KindOfModel:
    """``model`` is what a project works with, ``runs`` the one whose rows a runner claims."""

    name: str
    model: Any
    runs: Any
    fields: Callable[[int], dict[str, Any]] = lambda number: {}
    using: str = "default"

    def row(self, number: int = 1, **fields: Any) -> Any:
        """A new row, another one for each number."""
        row = self.model(**{**self.fields(number), **fields})
        row.save(using=self.using)
        return row

    def stored(self, row: Any) -> Any:
        """The row as a runner sees it, whatever its managers hide."""
        return self.rows().get(pk=key_of(row))

    def rows(self) -> QuerySet[Any]:
        """All rows that are run."""
        return QuerySet(self.runs, using=self.using)


def related(number: int) -> dict[str, Any]:
    return {"owner": UUIDKind.objects.create(state="failed")}


def other_key(number: int) -> dict[str, Any]:
    return {"label": 99 + number}


def composite(number: int) -> dict[str, Any]:
    """Of each part another row has the same."""
    return {"pk": (number // 2, f"it's {number % 2}")}


KINDS = [
    KindOfModel("big integer", BigKind, BigKind, lambda number: {"pk": 2**62 + number}),
    KindOfModel("uuid", UUIDKind, UUIDKind),
    KindOfModel("text", TextKind, TextKind, lambda number: {"code": f"[\"{number}', 100 %"}),
    KindOfModel("related", RelatedKind, RelatedKind, related),
    KindOfModel("composite", CompositeKind, CompositeKind, composite),
    KindOfModel("parent", ParentKind, ParentKind),
    KindOfModel("child of the parent", ChildKind, ParentKind, lambda number: {"size": number}),
    KindOfModel("grandchild of the parent", Leaf, ParentKind),
    KindOfModel("child with another key", LabelledKind, ParentKind, other_key),
    KindOfModel("child that declares", InvoiceKind, InvoiceKind, lambda number: {"total": number}),
    KindOfModel("child of that child", Reminder, InvoiceKind),
    KindOfModel("proxy", ProxyKind, BigKind),
    KindOfModel("abstract middles", GrandchildKind, GrandchildKind),
    KindOfModel("own manager", ManagedKind, ManagedKind),
    KindOfModel("routed", RoutedKind, RoutedKind, using="other"),
]

every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


def values(row: Model) -> dict[str, Any]:
    """All columns of a row, those in its parents' tables, too."""
    return {field.attname: row.__dict__[field.attname] for field in row._meta.concrete_fields}

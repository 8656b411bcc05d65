"""Database routers, as projects have them: named in ``settings.DATABASE_ROUTERS``."""

from __future__ import annotations

from typing import Any

from testapp.models import RoutedKind


class ByModel:
    """RoutedKind lives in `other`, everything else in `default`."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "other" if model is RoutedKind else "default"

    db_for_write = db_for_read


class Replica:
    """Everything is written to `default`; `other` is a replica that has seen none of it yet."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "other"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, one: Any, another: Any, **hints: Any) -> bool:
        return True

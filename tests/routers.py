"""Database routers, as projects have them: named in ``settings.DATABASE_ROUTERS``."""

from __future__ import annotations

from typing import Any

from tests.app.models import RoutedKind

# The labels of its apps.
PROJECT = ("testapp", "tests")


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


class Strict:
    """Keeps everything but the project's tables out of `other`."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return app_label in PROJECT if db == "other" else None


class OnlyOne:
    """Keeps each model in one database, as ``ByModel`` does, and this package's in both."""

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool | None:
        if app_label not in PROJECT:
            return None
        return (model_name == "routedkind") is (db == "other")

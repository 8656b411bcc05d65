"""A ``State`` in a migration: the plain text of its name, so that no migration needs a graph."""

from __future__ import annotations

from django.db.migrations.serializer import BaseSerializer
from django.db.migrations.writer import MigrationWriter

from django_fsmworker.graph import State


class StateSerializer(BaseSerializer):
    """What ``makemigrations`` writes for a ``State`` in a condition, a default or a choice."""

    def serialize(self) -> tuple[str, set[str]]:
        return repr(str(self.value)), set()


def register() -> None:
    """Called when the application is ready."""
    MigrationWriter.register_serializer(State, StateSerializer)

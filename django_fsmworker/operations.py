"""Operations for migrations. They never refer to a graph, so they outlive it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import models, router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation, OperationCategory


class AddStateIndexes(Operation):
    """Make the indexes of a model's life on MariaDB and MySQL, whole instead of partial.

    Django's migrations do that for the tables that they make; this is for a table that something
    else has made. It makes what the indexes with a condition are at this point of the migrations,
    as far as they are not there, and does nothing on a database that has partial indexes. Backwards
    it takes them from a table that Django does not manage.
    """

    category = OperationCategory.ADDITION

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name

    def state_forwards(self, app_label: str, state: Any) -> None:
        """The indexes are in the state already."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: Any,
        to_state: Any,
    ) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        for index, present in self._indexes(schema_editor, model):
            if not present:
                schema_editor.add_index(model, index)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: Any,
        to_state: Any,
    ) -> None:
        model = from_state.apps.get_model(app_label, self.model_name)
        for index, present in self._indexes(schema_editor, model):
            if present and not model._meta.managed:
                schema_editor.remove_index(model, index)

    def describe(self) -> str:
        return f"Make the state indexes of {self.model_name}, where there are no partial ones"

    @property
    def migration_name_fragment(self) -> str:
        return f"{self.model_name.lower()}_state_indexes"

    @staticmethod
    def _indexes(
        schema_editor: BaseDatabaseSchemaEditor, model: Any
    ) -> Iterator[tuple[models.Index, bool]]:
        """The indexes to be there, without their conditions, and whether they are."""
        connection, meta = schema_editor.connection, model._meta
        allowed = router.allow_migrate_model(connection.alias, model)
        if connection.features.supports_partial_indexes or not allowed:
            return
        with connection.cursor() as cursor:
            present = connection.introspection.get_constraints(cursor, meta.db_table)
        for index in meta.indexes:
            if index.condition is not None:
                whole = models.Index(fields=index.fields, name=index.name)
                yield whole, index.name in present

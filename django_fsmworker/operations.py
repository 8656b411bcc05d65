"""Migration operations. They never refer to a graph, so migrations stay valid without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.db import models, router, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import AddField, AlterField
from django.db.migrations.operations.base import Operation, OperationCategory
from django.db.models.functions import Now
from django.utils import timezone

from django_fsmworker.models.keys import with_keys
from django_fsmworker.models.locking import keys_and_states, lockable, locked
from django_fsmworker.models.operating import batches


class AddState(Operation):
    """Give the rows of an existing table a state of rest, and new ones a life.

    It adds the columns of ``StatorModel`` as ``makemigrations`` would, except that every row that
    is there is in the state ``rest`` with nothing due: as written by ``makemigrations``, they would
    all be in the initial state and due at once. The index is an operation of its own. Backwards,
    the columns are removed.

    :param model_name: the name of the model in the migration's app, in any case.
    :param states: the names of the graph's states, in their order.
    :param initial: the state that new rows start in.
    :param rest: the state of old rows; manual or terminal, and without ``delete_after``, which
        would delete them all when their time is over.
    :param max_length: that of the ``StateField``.
    :param history: whether the model has a ``StateHistoryField``.
    """

    category = OperationCategory.ADDITION
    reduces_to_sql = True
    reversible = True

    def __init__(
        self,
        model_name: str,
        *,
        states: Sequence[str],
        initial: str,
        rest: str,
        max_length: int = 100,
        history: bool = False,
    ) -> None:
        for name in (initial, rest):
            if name not in states:
                raise ValueError(
                    f"AddState({model_name!r}): {name!r} is not among states; name one of "
                    f"{', '.join(states)}."
                )
        if rest == initial:
            raise ValueError(
                f"AddState({model_name!r}): rest is the initial state, in which every old row "
                f"would have its check run; name a manual or terminal state."
            )
        self.model_name = model_name
        self.states = list(states)
        self.initial = initial
        self.rest = rest
        self.max_length = max_length
        self.history = history

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """What a migration's file says."""
        given: dict[str, Any] = {
            "states": self.states,
            "initial": self.initial,
            "rest": self.rest,
            "max_length": self.max_length,
            "history": self.history,
        }
        return type(self).__name__, [self.model_name], given

    def state_forwards(self, app_label: str, state: Any) -> None:
        for operation in self._operations():
            operation.state_forwards(app_label, state)

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: Any,
        to_state: Any,
    ) -> None:
        for operation, before, after in self._steps(app_label, from_state):
            operation.database_forwards(app_label, schema_editor, before, after)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: Any,
        to_state: Any,
    ) -> None:
        for operation, before, after in reversed(self._steps(app_label, to_state)):
            operation.database_backwards(app_label, schema_editor, after, before)

    def describe(self) -> str:
        return f"Add a state to {self.model_name}, in which old rows rest"

    @property
    def migration_name_fragment(self) -> str:
        return f"{self.model_name.lower()}_state"

    def _steps(self, app_label: str, state: Any) -> list[tuple[Operation, Any, Any]]:
        """Each operation with the project's state before it and after it."""
        steps = []
        for operation in self._operations():
            before, state = state, state.clone()
            operation.state_forwards(app_label, state)
            steps.append((operation, before, state))
        return steps

    def _operations(self) -> list[Operation]:
        """A column is added with the value of old rows as its default, which then becomes that of
        new ones.
        """
        own: dict[str, Any] = {"editable": False}
        free: dict[str, Any] = {**own, "blank": True, "null": True}
        fields: list[tuple[str, models.Field[Any, Any]]] = [
            (
                "state_changed",
                models.DateTimeField(default=timezone.now, db_default=Now(), **own),
            ),
            ("state_lease", models.DateTimeField(**free)),
            ("state_claim", models.BigIntegerField(**free)),
            ("state_failures", models.SmallIntegerField(default=0, db_default=0, **own)),
        ]
        if self.history:
            fields.append(("state_history", models.JSONField(default=list, db_default=[], **own)))
        name = self.model_name
        return [
            AddField(name, "state", self._state(self.rest)),
            AddField(name, "state_next", models.DateTimeField(**free)),
            AlterField(name, "state", self._state(self.initial)),
            AlterField(name, "state_next", models.DateTimeField(db_default=Now(), **free)),
            *(AddField(name, column, field) for column, field in fields),
        ]

    def _state(self, of_old_rows: str) -> models.CharField[Any, Any]:
        return models.CharField(
            choices=[(each, each) for each in self.states],
            default=self.initial,
            db_default=of_old_rows,
            editable=False,
            max_length=self.max_length,
        )


class RenameStates(Operation):
    """Give the rows of a state that was renamed its new name.

    Nothing else changes: rows stay due when they were. They are locked in the order of their keys
    and written in batches, all in the migration's transaction, unless that has ``atomic = False``.
    Backwards, they get the old names again.

    :param model_name: the name of the model in the migration's app, in any case.
    :param renamed: from each old name to the new one.
    """

    category = OperationCategory.PYTHON
    reversible = True

    def __init__(self, model_name: str, renamed: Mapping[str, str]) -> None:
        if both := sorted(set(renamed) & set(renamed.values())):
            raise ValueError(
                f"RenameStates({model_name!r}): {', '.join(both)} is an old name and a new one; "
                f"use two operations."
            )
        self.model_name = model_name
        self.renamed = dict(renamed)

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        """What a migration's file says."""
        return type(self).__name__, [self.model_name, self.renamed], {}

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Nothing changes: these are rows, not columns."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: Any,
        to_state: Any,
    ) -> None:
        self._rename(app_label, schema_editor, to_state, self.renamed)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: Any,
        to_state: Any,
    ) -> None:
        back = {new: old for old, new in self.renamed.items()}
        self._rename(app_label, schema_editor, to_state, back)

    def describe(self) -> str:
        names = ", ".join(f"{old} to {new}" for old, new in self.renamed.items())
        return f"Rename states in the rows of {self.model_name}: {names}"

    @property
    def migration_name_fragment(self) -> str:
        return f"{self.model_name.lower()}_states_renamed"

    def _rename(
        self, app_label: str, schema_editor: Any, state: Any, renamed: Mapping[str, str]
    ) -> None:
        model = state.apps.get_model(app_label, self.model_name)
        using = schema_editor.connection.alias
        if not router.allow_migrate_model(using, model):
            return
        for old, new in renamed.items():
            rows: models.QuerySet[Any] = models.QuerySet(model, using=using)
            for some in batches(rows.filter(state=old)):
                with transaction.atomic(using=using):
                    keys = [
                        key for part in lockable(some) for key, _ in keys_and_states(locked(part))
                    ]
                    rows.filter(with_keys(model, keys)).update(state=new)


class AddStateIndexes(Operation):
    """Create the state indexes of a table on MariaDB or MySQL that no migration of Django created.

    Those databases have no partial indexes, so the indexes are created without their conditions.
    The operation creates the indexes that the model has at this point of the migrations and that
    the table lacks. On a database with partial indexes it does nothing. Backwards, it removes them
    from a table that Django does not manage (``managed = False``), and from no other.

    :param model_name: the name of the model in the migration's app, in any case.
    """

    category = OperationCategory.ADDITION

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Nothing changes: the migration state has the indexes already."""

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
        """Each index that the table needs, without its condition, and whether the table has it."""
        connection, meta = schema_editor.connection, model._meta
        allowed = router.allow_migrate_model(connection.alias, model)
        if connection.features.supports_partial_indexes or not allowed:
            return
        with connection.cursor() as cursor:
            present = connection.introspection.get_constraints(cursor, meta.db_table)
        for index in meta.indexes:
            # A whole index of due rows has the stranded ones, too.
            if index.condition is not None and not index.name.endswith("_stranded"):
                whole = models.Index(fields=index.fields, name=index.name)
                yield whole, index.name in present

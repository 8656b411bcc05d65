"""User code inside a transaction of the engine's: a savepoint, once it sends a statement.

A savepoint costs two round trips, and most conditions and actions ask the database nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.db import Error, connections
from django.db.transaction import TransactionManagementError

from django_fsmworker.logs import shown
from django_fsmworker.store.session_watch import changes_transaction, ends_transaction, may_write

Result = TypeVar("Result")

Surrounding = Callable[[Any, Any, Callable[[Any, Any], Any]], Any]
"""Calls its last argument with a row and an event, inside what the project puts around that."""


class UserCode:
    """Calls user code for rows of ``model`` in the open transaction of one database.

    ``before`` is called once before the first statement of each call, to write what the engine has
    put off, so that the call sees the database as it is to be.
    """

    def __init__(self, alias: str, model: Any, before: Callable[[], None]) -> None:
        self._connection: Any = connections[alias]
        self._model = model
        self._key: Any = None
        self._before = before
        self._savepoint: str | None = None
        self._opening = False
        self._engine_error: BaseException | None = None
        self.sent = False
        self.changed = False
        self.writes = 0

    def call(self, function: Callable[[], Result], key: Any) -> Result:
        """The result of ``function``; if it raises an exception, nothing that it did is left.

        ``key`` is that of the row for which it is called.
        Afterwards ``sent`` tells whether it has sent a statement, ``changed`` whether one of all
        calls has set something that others would find in the transaction, or the session, and
        ``writes`` counts those of all calls that may have written another row than its own.
        """
        self._key = key
        connection = self._connection
        callbacks = len(connection.run_on_commit)
        self._forget()
        try:
            with connection.execute_wrapper(self._execute):
                result = function()
            self._raise_engine_error()
            self._refuse_rollback()
            if self._savepoint is not None:
                connection.savepoint_commit(self._savepoint)
        except Exception:
            self._raise_engine_error()
            self._undo(callbacks)
            raise
        return result

    def _execute(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if self._opening:
            return execute(sql, params, many, context)
        self._refuse_end(sql)
        if not self.sent:
            self._open()
        if not self.changed:
            self.changed = changes_transaction(self._connection, sql)
        self.writes += may_write(self._connection, sql) and not self._is_own(sql, params)
        return execute(sql, params, many, context)

    def _is_own(self, sql: Any, params: Any) -> bool:
        """Whether this is the ORM's statement that saves the row itself."""
        meta, quote = self._model._meta, self._connection.ops.quote_name
        table, column = quote(meta.db_table), quote(meta.pk.column or "")
        begins = str(sql).startswith(f"UPDATE {table} SET ")
        if not begins or not str(sql).endswith(f" WHERE {table}.{column} = %s"):
            return False
        own: Any = meta.pk.get_db_prep_value(self._key, self._connection)
        return isinstance(params, list | tuple) and params[-1] == own

    def _open(self) -> None:
        self._opening = True
        try:
            self._before()
            self._savepoint = self._connection.savepoint()
        except BaseException as error:  # not the caller's to swallow
            self._engine_error = error
            raise
        finally:
            self._opening = False
        self.sent = True

    def _raise_engine_error(self) -> None:
        if self._engine_error is not None:
            raise self._engine_error

    def _refuse_end(self, sql: Any) -> None:
        """Refuse a statement before it commits what others have done, without their ends."""
        if ends_transaction(self._connection, sql):
            raise TransactionManagementError(
                f"An action, or the condition before it, would have ended the transaction that it "
                f"shares with other events by {shown(sql)}; leave that to a check, or to "
                f"transaction.on_commit()."
            )

    def _refuse_rollback(self) -> None:
        if self._connection.needs_rollback:
            raise TransactionManagementError(
                "An action, or the condition before it, met a database error or asked for a "
                "rollback, and went on; wrap what may fail in transaction.atomic()."
            )

    def _forget(self) -> None:
        self._savepoint, self._engine_error, self.sent = None, None, False

    def _undo(self, callbacks: int) -> None:
        connection = self._connection
        if self._savepoint is not None:
            connection.needs_rollback = False
            try:
                connection.savepoint_rollback(self._savepoint)
                connection.savepoint_commit(self._savepoint)
            except Error:  # the whole transaction is gone, and what was raised tells why
                connection.needs_rollback = True
                return
        connection.needs_rollback = False
        del connection.run_on_commit[callbacks:]

"""What has to be true before a runner starts, said in sentences."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError, connections, router
from django.db.models import QuerySet

from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.models.discovery import declaring_model, refuse_children, stator_models
from django_fsmworker.models.functions import DatabaseNow
from django_fsmworker.models.keys import with_keys
from django_fsmworker.models.moving import keys_and_states, lockable, locked
from django_fsmworker.models.querysets import StatorQuerySet
from django_fsmworker.models.records import FailureRecord, StatorLog
from django_fsmworker.runner.database.backing_off import FIRST_WAIT
from django_fsmworker.runner.database.connections import discard
from django_fsmworker.runner.wakeup import Wakeup
from django_fsmworker.store import Store
from django_fsmworker.store.errors import is_outage

logger = logging.getLogger(__name__)

RESCUE_BATCH = 1000


def models_to_run(models: Sequence[Any] | None, database: str | None = None) -> list[Any]:
    """``models``, or all with a state graph; ``ConfigurationError`` if there is none.

    All are, with ``database``, only those that are kept there.

    A proxy stands for its model. A multi-table child is refused: its parent's rows are run.
    """
    refuse_children(models or ())
    named = stator_models(database) if models is None else models
    chosen = [declaring_model(model) for model in named]
    if not chosen:
        raise ConfigurationError(
            "There is nothing to run: no installed model has a StateField with a graph."
        )
    return list(dict.fromkeys(chosen))


def refuse_transaction(stores: Mapping[Any, Store]) -> None:
    """Raise ``ConfigurationError`` inside ``atomic()``: other threads do not see what is in it."""
    for store in stores.values():
        if store.connection.in_atomic_block:
            raise ConfigurationError(
                f"A runner cannot run inside a transaction of the database {store.alias!r}; call "
                f"run() outside atomic() (in tests: TransactionTestCase, or run_until_idle())."
            )


def make_ready(
    stores: Mapping[Any, Store], timeout: float, wakeup: Wakeup, stopping: Callable[[], bool]
) -> bool:
    """Wait for the databases, then inspect them; False if the runner was told to stop meanwhile.

    Raises ``ConfigurationError`` if one is not there, or goes away again, for ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    while True:
        wait_for_databases(stores, end, wakeup, stopping)
        if stopping():
            return False
        try:
            inspect(stores)
            return True
        except (DatabaseError, InterfaceError) as error:
            if not is_outage(error) or time.monotonic() > end:
                raise
        for store in stores.values():
            discard(store.connection)
        wakeup.wait(FIRST_WAIT)


def wait_for_databases(
    stores: Mapping[Any, Store], end: float, wakeup: Wakeup, stopping: Callable[[], bool]
) -> None:
    """Try each database until it answers, or ``end`` has come (``time.monotonic()`` seconds).

    Raises ``ConfigurationError`` with the database's last word.
    """
    for store in {store.alias: store for store in stores.values()}.values():
        wait = FIRST_WAIT
        while not stopping():
            try:
                connections[store.alias].ensure_connection()
                break
            except (OperationalError, InterfaceError) as error:
                discard(connections[store.alias])
                if time.monotonic() + wait > end:
                    raise ConfigurationError(
                        f"The database {store.alias!r} cannot be reached ({_one_line(error)}); "
                        f"start it, or correct DATABASES[{store.alias!r}]."
                    ) from error
            wakeup.wait(wait)
            wait = min(2 * wait, 2.0)


def inspect(stores: Mapping[Any, Store]) -> None:
    """Raise for what cannot work, say what will cost, rescue what is stranded."""
    check_tables(stores)
    refuse_tables(stores)
    warn_of_shortcomings(stores)
    rescue_stranded(stores)


def check_tables(stores: Mapping[Any, Store]) -> None:
    """Raise ``ConfigurationError`` if a table or a column is missing."""
    by_alias: dict[str, list[Any]] = {}
    for model, store in stores.items():
        by_alias.setdefault(store.alias, [FailureRecord, StatorLog]).append(model)
    for alias, models in by_alias.items():
        for model in models:
            try:
                columns: QuerySet[Any] = QuerySet(model, using=alias)
                list(columns.extra(where=["1 = 0"]))
            except DatabaseError as error:
                if is_outage(error):
                    raise
                discard(connections[alias])
                raise ConfigurationError(
                    f"The table of {model._meta.label} in the database {alias!r} is not as the "
                    f"code expects it ({_one_line(error)}); "
                    f"run 'manage.py migrate --database {alias}'.{_unless_kept_out(model, alias)}"
                ) from error


def _unless_kept_out(model: Any, alias: str) -> str:
    if router.allow_migrate_model(alias, model):
        return ""
    return " First let the router's allow_migrate() accept it there."


def refuse_tables(stores: Mapping[Any, Store]) -> None:
    """Raise ``ConfigurationError`` if a table is of a kind that the store cannot work on."""
    for model, store in stores.items():
        for sentence in store.refusals(model):
            raise ConfigurationError(sentence)


def warn_of_shortcomings(stores: Mapping[Any, Store]) -> None:
    """Log what the databases' own settings will cost."""
    for store in {store.alias: store for store in stores.values()}.values():
        for sentence in store.shortcomings():
            logger.warning("%s", sentence, extra={"action": "shortcoming"})
    for model, store in stores.items():
        for lack, remedy in store.missing_indexes(model):
            logger.warning("%s %s", lack, remedy, extra={"action": "shortcoming"})


def rescue_stranded(stores: Mapping[Any, Store]) -> None:
    """Say which rows are in an automatic state with nothing due, and make them due.

    Their state was manual in an older graph, or plain SQL wrote NULL.
    """
    for model, store in stores.items():
        number = 0
        while batch := _rescue_batch(store, model):
            number += batch
        if number:
            logger.warning(
                "%d rows of %s were in an automatic state with nothing due; they are due now.",
                number,
                model._meta.label,
                extra={"action": "stranded", "model": model._meta.label},
            )


def _rescue_batch(store: Store, model: Any) -> int:
    """Lock some of them in the order of their keys, then write."""
    rows: StatorQuerySet[Any] = StatorQuerySet(model, using=store.alias)
    with store.transaction():
        stranded = lockable(rows.stranded()[:RESCUE_BATCH])
        keys = [key for some in stranded for key, _ in keys_and_states(locked(some))]
        return rows.filter(with_keys(model, keys)).update(state_next=DatabaseNow()) if keys else 0


def _one_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].strip()

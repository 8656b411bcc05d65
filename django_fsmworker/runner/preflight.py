"""Checks before a runner starts: databases, tables, indexes, stranded rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import DatabaseError, InterfaceError, OperationalError, connections, router

from django_fsmworker.conf import unknown_variables
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.logs import logger_for
from django_fsmworker.models.companions import is_companion
from django_fsmworker.models.discovery import refuse_not_run, stator_models
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.models.records import RECORDS
from django_fsmworker.models.served import with_companions
from django_fsmworker.models.worker import Worker
from django_fsmworker.runner.database.outages import FIRST_WAIT
from django_fsmworker.runner.main_loop import Wakeup
from django_fsmworker.runner.stranded import rescue_stranded
from django_fsmworker.store import Store, one_a_table
from django_fsmworker.store.drivers import discard, let_go
from django_fsmworker.store.errors import (
    is_cancelled,
    is_contention,
    is_outage,
    is_refusal,
)

logger = logger_for(__name__)


MOST_COUNTED = 1000


class Unreachable(ConfigurationError):
    """A database did not answer for as long as a runner waits for it at its start."""


def models_to_run(models: Sequence[Any] | None, database: str | None = None) -> list[Any]:
    """``models``, or all with a state graph; ``ConfigurationError`` if there is none.

    All are, with ``database``, only those that are kept there.

    A proxy stands for its model. A multi-table child is refused: its parent's rows are run. Where a
    graph declares events, those of the model are delivered, too.
    """
    refuse_not_run(models or ())
    named = stator_models(database) if models is None else models
    chosen = [declaring_model(model) for model in named if not is_companion(model)]
    if not chosen:
        raise ConfigurationError(
            "There is nothing to run: no installed model has a StateField with a graph."
        )
    return with_companions(dict.fromkeys(chosen))


def refuse_transaction(stores: Mapping[Any, Store]) -> None:
    """Raise ``ConfigurationError`` inside ``atomic()``: other threads do not see what is in it."""
    for store in stores.values():
        if store.connection.in_atomic_block:
            raise ConfigurationError(
                f"A runner cannot run inside a transaction of the database {store.alias!r}; call "
                f"run() outside atomic() (in tests: TransactionTestCase, or run_until_idle())."
            )


def refuse_manual_commits(stores: Mapping[Any, Store]) -> None:
    """Raise ``ConfigurationError`` where connections commit nothing by themselves."""
    for store in stores.values():
        if not store.connection.settings_dict["AUTOCOMMIT"]:
            raise ConfigurationError(
                f"DATABASES[{store.alias!r}] has AUTOCOMMIT = False, and nothing that a runner "
                f"writes would be committed; remove it."
            )


def make_ready(
    stores: Mapping[Any, Store],
    timeout: float,
    wakeup: Wakeup,
    stopping: Callable[[], bool],
    learn: Callable[[], None],
) -> bool:
    """Wait for the databases, then inspect them; False if the runner was told to stop meanwhile.

    ``learn`` asks them what the runner has to know besides: an outage may come at any moment.
    Raises ``ConfigurationError`` if one is not there, or goes away again, for ``timeout`` seconds.
    """
    end = time.monotonic() + timeout
    while True:
        wait_for_databases(stores, end, wakeup, stopping)
        if stopping():
            return False
        try:
            inspect(stores)
            learn()
            return True
        except (DatabaseError, InterfaceError) as error:
            passes = is_outage(error) or is_contention(error) or is_cancelled(error)
            if not passes or time.monotonic() > end:
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
                let_go(error)
                if time.monotonic() + wait > end:
                    raise Unreachable(
                        f"The database {store.alias!r} cannot be reached ({_one_line(error)}); "
                        f"start it, or correct DATABASES[{store.alias!r}]."
                    ) from error
            wakeup.wait(wait)
            wait = min(2 * wait, 2.0)


def inspect(stores: Mapping[Any, Store]) -> None:
    """Raise for what cannot work, warn of what costs speed, rescue stranded rows."""
    stores = one_a_table(stores)
    refuse_switched_schemas(stores)
    refuse_tables(stores)
    check_tables(stores)
    warn_of_shortcomings(stores)
    warn_of_undeclared_states(stores)
    rescue_stranded(stores)


def refuse_switched_schemas(stores: Mapping[Any, Store]) -> None:
    """Raise ``ConfigurationError`` where a runner's threads would not see the caller's schema."""
    for store in stores.values():
        if store.switches_schemas:
            raise ConfigurationError(
                f"The connections to the database {store.alias!r} switch between the schemas of "
                f"tenants, and a runner works in one. Start one for each schema, with settings "
                f"whose ENGINE is Django's own and whose search_path names the schema."
            )


def check_tables(stores: Mapping[Any, Store]) -> None:
    """Raise ``ConfigurationError`` if a table or a column is missing."""
    for alias, store in {store.alias: store for store in stores.values()}.items():
        here = [model for model, own in stores.items() if own.alias == alias]
        for model in [*RECORDS, Worker, *here]:
            try:
                store.probe(model)
            except DatabaseError as error:
                if not is_refusal(error):
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


def statement_limits(stores: Mapping[Any, Store], longest: float) -> dict[str, float]:
    """By alias, seconds after which the server is to end a statement of a check.

    The runner ends it sooner, unless it has been killed. Where the project has a shorter limit,
    there is none.
    """
    limits = {}
    for store in stores.values():
        own = store.own_statement_limit()
        if own is None or own > longest:
            limits[store.alias] = longest
    return limits


def warn_of_undeclared_states(stores: Mapping[Any, Store]) -> None:
    """Log the due rows that no check is for: of another build, or of a state that is renamed."""
    for model, store in stores.items():
        for state, number in store.undeclared_states(model, MOST_COUNTED).items():
            logger.warning(
                "%s rows of %s are in the state %s, which %s does not declare, and are not run; "
                "rename them with QuerySet.update(), or declare the state.",
                number if number < MOST_COUNTED else f"{MOST_COUNTED} or more",
                model._meta.label,
                state,
                model.state_graph.__name__,
                extra={"action": "undeclared", "model": model._meta.label, "state": state},
            )


def warn_of_variables() -> None:
    """Log the environment variables that look like settings."""
    for sentence in unknown_variables():
        logger.warning("%s", sentence, extra={"action": "shortcoming"})


def _one_line(error: BaseException) -> str:
    return str(error).partition("\n")[0].strip()

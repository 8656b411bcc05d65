"""Looking up workers, in every database in which they keep records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from django.db import connections, router

from django_fsmworker.models.companions import is_companion, target_of
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.functions import DatabaseLater
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.models.worker import Worker
from django_fsmworker.workers.workers import Workers

# Seconds since the last sign of life of workers that tell where rows are.
HEARD_WITHIN = 86400.0


def get(worker_id: str, *, databases: Iterable[str] | None = None) -> Worker:
    """The worker with this id; ``Worker.DoesNotExist`` if there is no record of it.

    ``databases`` are the aliases to look in; by default those that routers write models with a
    state graph to. It holds for every function here.
    """
    for worker in _found(databases, id=worker_id):
        return worker
    raise Worker.DoesNotExist(
        f"There is no record of a worker {worker_id!r}; workers.all() has those that there are."
    )


def all(
    *,
    name: str | None = None,
    host: str | None = None,
    databases: Iterable[str] | None = None,
) -> Workers:
    """Every worker on record, stopped and lost ones as well, by name and then by start.

    With ``name`` or ``host`` only those of that name, or on that host.
    """
    wanted = {"name": name, "host": host}
    filters = {column: value for column, value in wanted.items() if value is not None}
    return _found(databases, **filters)


def living(
    *,
    name: str | None = None,
    host: str | None = None,
    databases: Iterable[str] | None = None,
) -> Workers:
    """The workers that run, as far as their last signs of life tell, suspended ones as well."""
    found = all(name=name, host=host, databases=databases)
    return Workers(worker for worker in found if worker.is_living)


def lost(
    *,
    name: str | None = None,
    host: str | None = None,
    databases: Iterable[str] | None = None,
) -> Workers:
    """The workers that have fallen silent without having stopped."""
    found = all(name=name, host=host, databases=databases)
    return Workers(worker for worker in found if worker.is_lost)


def serving(model: Any, *, databases: Iterable[str] | None = None) -> Workers:
    """The living workers that run rows of ``model``, suspended ones as well.

    ``model`` may be a model's label. Whoever runs the rows of a model delivers their events.
    """
    label = model if isinstance(model, str) else declaring_model(model)._meta.label
    return Workers(worker for worker in living(databases=databases) if label in worker.served)


def databases_of(
    models: Iterable[Any], *, is_there: Callable[[str], bool] = lambda alias: True
) -> dict[Any, list[str]]:
    """By model, the databases with rows of it, as far as known here; the one written to first.

    Beside that one there may be others, in which a worker that is on record, and was heard of
    within a day, runs rows of the model. Those of which ``is_there`` is not true are left out
    without being asked.
    """
    known: dict[str, tuple[set[str], set[str]]] = {}

    def in_database(alias: str) -> tuple[set[str], set[str]]:
        if alias not in known:
            known[alias] = _databases_and_labels(alias)
        return known[alias]

    found: dict[Any, list[str]] = {}
    for model in models:
        own: str = router.db_for_write(target_of(model))
        label = declaring_model(model)._meta.label
        if not is_there(own):
            found[model] = []
            continue
        others = filter(is_there, sorted(in_database(own)[0] & set(connections) - {own}))
        found[model] = [own] + [
            alias for alias in others if is_companion(model) or label in in_database(alias)[1]
        ]
    return found


def _databases_and_labels(alias: str) -> tuple[set[str], set[str]]:
    """Where the workers on record in a database run rows, and the models that they run there."""
    recent = Worker.objects.using(alias).filter(expires__gt=DatabaseLater(-HEARD_WITHIN))
    databases, labels = set[str](), set[str]()
    for options, served in recent.values_list("options", "served"):
        databases.update(options.get("databases", ()))
        labels.update(served)
    return databases, labels


def purge(older_than: timedelta, *, databases: Iterable[str] | None = None) -> int:
    """Delete records of workers that stopped or were lost longer ago than that; their number."""
    return sum(Worker.objects.using(alias).purge(older_than) for alias in _aliases(databases))


def _found(databases: Iterable[str] | None, **filters: str) -> Workers:
    """The workers, each once, by the database in which it gave its last sign of life."""
    latest: dict[str, Worker] = {}
    for alias in _aliases(databases):
        for record in Worker.objects.using(alias).filter(**filters).with_now():
            other = latest.get(record.pk)
            record.databases = (*(other.databases if other else ()), alias)
            if other is not None:  # each record names what is run in its own database
                record.served = other.served = {**other.served, **record.served}
            if other is None or record.age < other.age:
                latest[record.pk] = record
            else:
                other.databases = record.databases
    return Workers(sorted(latest.values(), key=lambda worker: (worker.name, worker.started)))


def _aliases(databases: Iterable[str] | None) -> list[str]:
    if databases is not None:
        return list(databases)
    return sorted({router.db_for_write(model) for model in stator_models()})

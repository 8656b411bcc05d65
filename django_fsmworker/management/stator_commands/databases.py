"""The databases that a command asks, without those that are away: these are told of at the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from django.core.management.base import CommandError
from django.db import DatabaseError, connections, router

from django_fsmworker.management.labels import (
    chosen_by_database,
    chosen_models,
    databases_named,
)
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.store import store_for
from django_fsmworker.workers import databases_of

Found = TypeVar("Found")


class Databases:
    """Those of one command; each is asked once whether it is there."""

    def __init__(self) -> None:
        self._faults: dict[str, str] = {}
        self._tables: list[str] = []

    @property
    def left_out(self) -> list[str]:
        """A sentence for each that is away, while others are not, and for each such table."""
        faults = [each for each in [*self._faults.values(), *self._tables] if each]
        return [f"{fault}; what is in it is left out." for fault in faults]

    def leave_out(self, fault: str) -> None:
        """Tell at the end, in this clause, of a table that could not be asked."""
        self._tables.append(fault[0].upper() + fault[1:])

    def places(self, options: dict[str, Any]) -> list[tuple[Any, str]]:
        """The models that ``add_labels()`` has read, each with the alias of a database.

        There may be several of one model: those that ``--database`` names, or the one to which
        routers write it, and those in which a worker on record runs it.
        """
        labels, aliases = options["labels"], databases_named(options["database"])
        if aliases:
            found = chosen_by_database(labels, [], aliases)
            return [(model, alias) for alias in self.there(found) for model in found[alias]]
        return self.places_of(chosen_models(labels, [], None))

    def places_of(self, models: Iterable[Any]) -> list[tuple[Any, str]]:
        """These models, each with the aliases of the databases in which they are run."""
        found = databases_of(models, is_there=self._is_there)
        return self._unless_none(
            [(model, alias) for model, some in found.items() for alias in some]
        )

    def of_workers(self, options: dict[str, Any]) -> list[str]:
        """Those in which workers keep records: as ``--database`` says, or where models are."""
        named = databases_named(options["database"])
        return self.there(named or sorted(map(router.db_for_write, stator_models())))

    def there(self, aliases: Iterable[str]) -> list[str]:
        """Those that are not away, each once; it is an error if all of them are."""
        return self._unless_none([each for each in dict.fromkeys(aliases) if self._is_there(each)])

    def _is_there(self, alias: str) -> bool:
        if alias not in self._faults:
            self._faults[alias] = _fault(alias)
        return not self._faults[alias]

    def _unless_none(self, found: list[Found]) -> list[Found]:
        faults = [fault for fault in self._faults.values() if fault]
        if faults and not found:
            self._faults.clear()
            raise CommandError(" ".join(f"{fault}; start it." for fault in faults))
        return found


def _fault(alias: str) -> str:
    """What keeps the database from answering; empty if it does."""
    try:
        connections[alias].ensure_connection()  # the store of SQLite asks nobody what time it is
        store_for(alias).now()
    except DatabaseError as error:
        return f"The database {alias!r} is away ({first_line(error)})"
    return ""


def first_line(error: Exception) -> str:
    """What its message begins with: drivers go on with hints and with the statement."""
    return str(error).partition("\n")[0].strip()

"""What only concerns MariaDB and MySQL."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error


def check_mysql(
    alias: str, database: dict[str, Any], models: Sequence[Any]
) -> Iterator[CheckMessage]:
    """What the settings, and the graphs of ``models``, have to say; no database is looked at."""
    zone = database.get("TIME_ZONE")
    if zone not in (None, "UTC"):
        yield Error(
            f"The database {alias!r} has the TIME_ZONE {zone!r}, so its columns hold local times, "
            f"which are ambiguous for an hour a year.",
            hint=f"Take TIME_ZONE out of DATABASES[{alias!r}].",
            id="fsmworker.E013",
        )
    for model in models:
        yield from _check_names(model)


def _check_names(model: Any) -> Iterator[CheckMessage]:
    """Collations take capital and small letters, with accents and without, for equal."""
    alike = defaultdict(list)
    for name in model.state_graph.states:
        parts = unicodedata.normalize("NFKD", name)
        alike["".join(each for each in parts if not unicodedata.combining(each)).casefold()].append(
            name
        )
    for names in alike.values():
        if len(names) > 1:
            yield Error(
                f"MariaDB and MySQL take the states {' and '.join(names)} of {model._meta.label} "
                f"for the same one.",
                hint="Give them names that differ by more than case and accents.",
                obj=model,
                id="fsmworker.E014",
            )

"""What this code's graph means for the rows that are there: to be asked before a deploy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from django.db import DatabaseError, connections
from django.db.migrations.loader import MigrationLoader
from django.db.models import Count, QuerySet

from django_fsmworker.diagnosis.mismatch import mismatch_of
from django_fsmworker.models import StatorQuerySet
from django_fsmworker.store import store_for

# How much the names of two states have in common, at least, for one to be the other renamed.
ALIKE = 0.6


@dataclass(frozen=True, slots=True)
class Plan:
    """Of one model in one database.

    ``unknown``: by state, the rows in states that the graph does not declare: nobody would run
    them. ``stranded``: by state, those in states with a check that have nothing due: a runner makes
    them due when it starts. ``new`` and ``gone``: states that the graph has and the applied
    migrations do not know, and the other way round. ``renamed``: a guess, from the old name to the
    new one, of those in ``unknown`` and ``gone``. ``mismatch``: what the table lacks for its rows
    to have states at all, before it is migrated.
    """

    model: str
    database: str
    unknown: dict[str, int]
    stranded: dict[str, int]
    new: list[str]
    gone: list[str]
    renamed: dict[str, str]
    mismatch: str = ""

    @property
    def strands_rows(self) -> bool:
        """Whether there are rows that nobody would run."""
        return bool(self.unknown)

    @property
    def changes(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.unknown or self.stranded or self.new or self.gone or self.mismatch)

    def as_dict(self) -> dict[str, Any]:
        """In plain types."""
        return asdict(self)


def plan_of(model: Any, using: str) -> Plan:
    """Compare the graph with the rows, which are counted, and with the applied migrations."""
    rows: StatorQuerySet[Any] = StatorQuerySet(model, using=using)
    declared, known = list(model.state_graph.states), migrated_states(model, using)
    unknown, stranded, mismatch = dict[str, int](), dict[str, int](), ""
    store = store_for(using)
    try:
        with store.inside():
            unknown, stranded = _by_state(rows.unknown_state()), _by_state(rows.stranded())
    except DatabaseError as error:
        mismatch = mismatch_of(model, store, error)
    new = [] if known is None else [state for state in declared if state not in known]
    gone = [] if known is None else [state for state in known if state not in declared]
    return Plan(
        model=model._meta.label,
        database=using,
        unknown=unknown,
        stranded=stranded,
        new=new,
        gone=gone,
        renamed=guess_renames(list(dict.fromkeys([*unknown, *gone])), new),
        mismatch=mismatch,
    )


def migrated_states(model: Any, using: str) -> list[str] | None:
    """The states that the applied migrations know; None if they know nothing of the model."""
    loader = MigrationLoader(connections[using])
    applied = [key for key in loader.graph.nodes if key in loader.applied_migrations]
    models = loader.project_state(applied).models
    found = models.get((model._meta.app_label, model._meta.model_name))
    field = found.fields.get("state") if found else None
    choices = getattr(field, "choices", None)
    return [name for name, _ in choices] if choices else None


def guess_renames(old: list[str], new: list[str]) -> dict[str, str]:
    """Which of ``new`` may be which of ``old``: by their names, or as the only ones left."""
    left, renamed = list(new), {}
    for name in old:
        for found in get_close_matches(name, left, 1, ALIKE):
            renamed[name] = found
            left.remove(found)
    unmatched = [name for name in old if name not in renamed]
    if len(unmatched) == len(left) == 1:
        renamed[unmatched[0]] = left[0]
    return renamed


def _by_state(rows: QuerySet[Any]) -> dict[str, int]:
    counted = rows.order_by().values_list("state").annotate(number=Count("*"))
    return dict(sorted(counted))

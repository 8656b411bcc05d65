"""A move of one row by a declared transition, with other columns, and patience while it is held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

from django.core.exceptions import FieldDoesNotExist
from django.db import router, transaction
from django.db.models import ExpressionWrapper, QuerySet
from django.db.models.fields import BooleanField

from django_fsmworker.exceptions import NotAllowed
from django_fsmworker.graph import State
from django_fsmworker.logs import logger_for
from django_fsmworker.models import unsaved
from django_fsmworker.models.fields import ENGINE_COLUMNS, LIFE_ENDS, loading
from django_fsmworker.models.functions import unleased
from django_fsmworker.models.keys import key_fields
from django_fsmworker.models.patience import Patience
from django_fsmworker.models.refusals import not_allowed
from django_fsmworker.models.transition import StateChange

logger = logger_for(__name__)

Running: TypeAlias = Literal["wait", "refuse", "revoke"]
"""What a move does while a runner holds its row."""


class Move:
    """One call of ``state_move()``: ``attempt()`` is called until it returns None."""

    def __init__(
        self,
        instance: Any,
        state: State | str,
        only_from: State | str | Iterable[State | str] | None,
        columns: Mapping[str, Any] | None,
        by: Any,
        reason: str,
        running: Running,
        wait: float,
        keep_failures: bool = False,
    ) -> None:
        if running not in ("wait", "refuse", "revoke"):
            raise ValueError(f"running={running!r} is none of 'wait', 'refuse' and 'revoke'.")
        graph = instance.state_graph
        self.target: State = graph.get(state)
        self.only_from = None if only_from is None else _states(graph, only_from)
        using = router.db_for_write(type(instance), instance=instance)
        self.change = StateChange(instance, using, "move", by, reason, keep_failures=keep_failures)
        self.change.refuse_unsaved("state_move()")
        self.columns, self.other_columns = self._parted(columns or {})
        self.only_unleased = running != "revoke"
        self.expected = self.change.loaded_state
        self.patience = Patience(using, wait if running == "wait" else 0.0)

    def attempt(self) -> float | None:
        """Move the row; or the seconds after which to try again, since a runner holds it."""
        source, self.expected = self.expected, None
        # Usually the row is where it was seen last, and one statement is enough.
        if source is not None and self._is_allowed(source) and self._enter(source):
            self._finish()
            return None
        while True:
            source, is_free = self._look()
            if not self._is_allowed(source):
                raise self._refusal(source)
            if self.only_unleased and not is_free:
                return self._wait(source)
            if self._enter(source, unfailing=False):
                self._finish()
                return None
            # It has changed since the look: whoever did that made progress, so this ends.

    def _look(self) -> tuple[str, bool]:
        """The state that the row is in, and whether no runner holds it."""
        free = ExpressionWrapper(unleased(), output_field=BooleanField())
        row = self.change.row.annotate(fsm_is_free_=free)
        found: tuple[str, bool] = row.values_list("state", "fsm_is_free_").get()
        return found

    def _enter(self, source: str, *, unfailing: bool | None = None) -> bool:
        """Write the move, if the row is in ``source`` and free; whether it was."""
        change, others = self.change, self.other_columns
        if unfailing is None:
            unfailing = change.seems_unfailing
        if not others:
            return change.enter(
                self.target,
                source,
                self.columns,
                only_unleased=self.only_unleased,
                unfailing=unfailing,
            )
        with transaction.atomic(using=change.using):
            if not change.enter(
                self.target, source, self.columns, only_unleased=self.only_unleased
            ):
                return False
            own: QuerySet[Any] = QuerySet(type(change.instance), using=change.using)
            own.filter(pk=change.instance.pk).update(**others)
            return True

    def _wait(self, source: str) -> float:
        """Seconds until the next look; raises ``NotAllowed`` if there is no time left."""
        pause = self.patience.pause()
        if pause is None:
            raise not_allowed(
                f"{self._name} cannot go from {source} to {self.target} now: a runner holds it for "
                f"its check. Try again, wait longer, or move it at once with running='revoke'.",
                "running",
            )
        return pause

    def _finish(self) -> None:
        change = self.change
        change.finish()
        if self.other_columns:
            with loading(change.instance):
                change.instance.refresh_from_db(using=change.using, fields=list(self.other_columns))
        unsaved.saved(change.instance, [*self.columns, *self.other_columns])
        source = change.moved[0][1]
        logger.debug(
            "%s moved from %s to %s%s%s.",
            self._name,
            source,
            self.target,
            "" if change.by is None else f" by {change.by}",
            f": {change.reason}" if change.reason else "",
            extra={"action": "move", "model": change.model._meta.label, "pk": change.key}
            | {"state": source},
        )

    @property
    def _name(self) -> str:
        instance = self.change.instance
        return f"{instance._meta.label} {instance.pk}"

    def _is_allowed(self, source: str) -> bool:
        return source in self._sources()

    def _sources(self) -> list[str]:
        """The states from which this move is allowed."""
        states = self.change.instance.state_graph.states.values()
        return [
            each.name
            for each in states
            if self.target in each.unguarded and (self.only_from is None or each in self.only_from)
        ]

    def _refusal(self, source: str) -> NotAllowed:
        sources = ", ".join(sorted(self._sources())) or "no state"
        return not_allowed(
            f"{self._name} cannot go from {source} to {self.target}; "
            f"this move is allowed from: {sources}.",
            "source_state",
        )

    def _parted(self, columns: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The columns in the table that has the state, and those in a child's or a parent's."""
        model = type(self.change.instance)
        own: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for name, value in columns.items():
            field = _settable(model, name)
            (own if field.model is self.change.model else others)[field.attname] = value
        return own, others


def _states(graph: Any, given: State | str | Iterable[State | str]) -> list[State]:
    names = [given] if isinstance(given, State | str) else given
    return [graph.get(each) for each in names]


def _settable(model: Any, name: str) -> Any:
    """The field of the column ``name``; ``ValueError`` if a move cannot set it."""
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        field = None
    if not getattr(field, "concrete", False) or field.many_to_many:
        raise ValueError(f"state_move() cannot set {name}: {model._meta.label} has no such column.")
    if field.generated:
        raise ValueError(f"state_move() cannot set {name}: the database works it out.")
    is_key = field.primary_key or field in key_fields(model)
    if is_key or field.attname in set(ENGINE_COLUMNS) - {LIFE_ENDS}:
        raise ValueError(
            f"state_move() cannot set {name}: it is the row's key or a column of the engine. "
            f"Leave it out of set."
        )
    return field

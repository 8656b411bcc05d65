"""An event that is sent to a row now: locked, asked, acted upon and moved in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import router, transaction
from django.db.models import ExpressionWrapper, Q, QuerySet
from django.db.models.fields import BooleanField

from django_fsmworker import clock
from django_fsmworker.exceptions import NotAllowed, Refusal
from django_fsmworker.graph import EventInfo, EventTransition, State
from django_fsmworker.graph.conditions import condition_text
from django_fsmworker.logs import logger_for
from django_fsmworker.models.acting import act
from django_fsmworker.models.choosing import choose, user_in
from django_fsmworker.models.entering import claim_after_move, lease_after_move
from django_fsmworker.models.fields import forget_changes, loading
from django_fsmworker.models.functions import unleased
from django_fsmworker.models.hints import hint_revoked
from django_fsmworker.models.keys import key_name
from django_fsmworker.models.locking import locked
from django_fsmworker.models.patience import Patience
from django_fsmworker.models.refusals import not_allowed
from django_fsmworker.models.transition import StateChange

logger = logger_for(__name__)


class Send:
    """One call of ``state_send()``: ``attempt()`` is called until it returns None."""

    def __init__(
        self,
        instance: Any,
        trigger: str,
        context: Mapping[str, Any],
        by: Any,
        reason: str,
        wait: float,
    ) -> None:
        self.instance = instance
        self.event = EventInfo(trigger=trigger, context=context, by=by, submitted=clock.now())
        self.user = user_in(by)
        using = router.db_for_write(type(instance), instance=instance)
        self.change = StateChange(instance, using, "event", by, reason, trigger)
        if trigger not in instance.state_graph.triggers:
            raise self._refusal("unknown_event", "")
        self.change.refuse_unsaved("state_send()")
        self.patience = Patience(using, wait)

    def attempt(self) -> float | None:
        """Send the event; or the seconds after which to try again, since a runner holds the row.

        Raises ``NotAllowed`` if the row does not take it.
        """
        with transaction.atomic(using=self.change.using):
            row = self._locked()
            edge = None if row is None else self._chosen(row)
            if row is not None and edge is not None:
                self._take(row, edge)
        if row is None or edge is None:
            return self._wait()
        self._finish(row, edge)
        return None

    @property
    def state(self) -> State:
        """The state of the row, once the event was sent."""
        state: State = self.instance.state_graph.get(self.instance.state)
        return state

    def _locked(self) -> Any:
        """The row as it is, locked; None, and nothing is locked, while nobody may take it."""
        graph, trigger = self.instance.state_graph, self.event.trigger
        interrupted = [
            state.name
            for state in graph.states.values()
            if any(edge.interrupts for edge in state.events.get(trigger, ()))
        ]
        free = ExpressionWrapper(unleased(), output_field=BooleanField())
        rows = self._rows().filter(unleased() | Q(state__in=interrupted))
        return next(iter(locked(rows.annotate(fsm_is_free_=free))), None)

    def _chosen(self, row: Any) -> EventTransition | None:
        """The transition to take; None if it has to wait for a check."""
        edge = choose(row, self.event, self.user)
        if not isinstance(edge, EventTransition):
            raise self._refusal(edge, row.state)
        return edge if row.fsm_is_free_ or edge.interrupts else None

    def _take(self, row: Any, edge: EventTransition) -> None:
        """Call the action and write the transition, within the transaction."""
        act(row, edge, self.event)
        if edge.action is not None:  # it may have written more than it assigned
            self._load(row, edge)
        if edge.target is None:
            if not row.fsm_is_free_ and edge.interrupts:
                self._revoke()
                row.refresh_from_db(using=self.change.using)
            return
        source = edge.source.name
        if self.change.seems_unfailing and self.change.enter(edge.target, source, unfailing=True):
            return
        if not self.change.enter(edge.target, source):
            raise ValueError(
                f"The action of on({edge.trigger!r}) of {edge.source!r} moved {self._name} itself "
                f"to {row.state}; nothing was saved. Declare with to= where it leads."
            )

    def _load(self, row: Any, edge: EventTransition) -> None:
        try:
            row.refresh_from_db(using=self.change.using)
        except ObjectDoesNotExist as error:
            raise ValueError(
                f"The action of on({edge.trigger!r}) of {edge.source!r} deleted {self._name}; "
                f"nothing was saved. Delete it where the event is sent, or in the state it leads "
                f"to."
            ) from error

    def _revoke(self) -> None:
        own = self.change.own_claim
        claim = {"state_lease": lease_after_move(own), "state_claim": claim_after_move(own)}
        self.change.row.update(**claim)
        hint_revoked(self.change.model, self.change.using)

    def _finish(self, row: Any, edge: EventTransition) -> None:
        """Give the row to the instance as it is now; hint and signal after the commit."""
        data, instance = row.__dict__, self.instance
        with loading(instance):
            for field in instance._meta.concrete_fields:
                if field.attname in instance.__dict__ and field.attname in data:
                    setattr(instance, field.attname, data[field.attname])
        forget_changes(instance)
        if edge.target is not None:
            self.change.finish()
        logger.debug(
            "%s took %s in %s%s, sent by %s%s.",
            self._name,
            edge.trigger,
            edge.source,
            "" if edge.target is None else f" and moved to {edge.target}",
            "the program" if self.event.by is None else self.event.by,
            f": {self.change.reason}" if self.change.reason else "",
            extra={"action": "event", "model": self.change.model._meta.label}
            | {"pk": self.change.key, "state": edge.source.name},
        )

    def _wait(self) -> float:
        """Seconds until the next look; raises ``NotAllowed`` if the row would not take it then."""
        state = self._rows().values_list("state", flat=True).get()
        known = self.instance.state_graph.states.get(state)
        if known is None or self.event.trigger not in known.events:
            raise self._refusal("source_state", state)
        pause = self.patience.pause()
        if pause is None:
            raise self._refusal("running", state)
        return pause

    def _rows(self) -> QuerySet[Any]:
        rows: QuerySet[Any] = QuerySet(type(self.instance), using=self.change.using)
        return rows.filter(**{key_name(rows.model): self.change.key})

    @property
    def _name(self) -> str:
        return f"{self.instance._meta.label} {self.instance.pk}"

    def _refusal(self, reason: Refusal, state: str) -> NotAllowed:
        return not_allowed(self._why_not(reason, state), reason)

    def _why_not(self, reason: Refusal, state: str) -> str:
        row, graph, event = self._name, self.instance.state_graph, self.event.trigger
        if reason == "unknown_event":
            known = ", ".join(sorted(graph.triggers)) or "none"
            return f"{row} takes no event {event!r}; those that {graph.__name__} declares: {known}."
        if reason == "source_state":
            states = [each.name for each in graph.states.values() if event in each.events]
            taken = ", ".join(states)
            return f"{row} does not take {event} in {state}; this event is taken in: {taken}."
        if reason == "permission":
            by = self.event.by
            return (
                f"{row} does not take {event} in {state} from {by}, who has not the permission for "
                f"it: {self._told('permission', state)}."
            )
        if reason == "condition":
            return (
                f"{row} does not take {event} in {state} now, because what when= asks for is not "
                f"true: {self._told('when', state)}."
            )
        return (
            f"{row} does not take {event} in {state} now: a runner holds it for its check. Try "
            f"again, wait longer, or declare the event with interrupts=True."
        )

    def _told(self, asked: str, state: str) -> str:
        """What the transitions of the event in ``state`` have for this argument of ``on()``."""
        edges = self.instance.state_graph.states[state].events[self.event.trigger]
        texts = [condition_text(each) for edge in edges if (each := getattr(edge, asked))]
        return " or ".join(dict.fromkeys(texts))

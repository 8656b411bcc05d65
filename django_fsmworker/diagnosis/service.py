"""Who runs the rows of a database, how fast, and what is held back there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django_fsmworker.models.companions import is_companion
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.event import is_event
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.models.limits import Pause
from django_fsmworker.models.pace import Pace
from django_fsmworker.models.worker import Worker, WorkerStatus
from django_fsmworker.store import pauses

OPEN, HALF_OPEN = "open", "half_open"


@dataclass(frozen=True, slots=True)
class HeldBack:
    """What is paused of the rows in a state.

    ``paused``: all of them, by people or by a check. ``keys``: so many keys of them; of events, so
    many models that they are for. ``breaker``: ``open``, ``half_open`` while one row is tried, or
    empty.
    """

    paused: bool = False
    keys: int = 0
    breaker: str = ""

    @property
    def all_wait(self) -> bool:
        """Whether none of the rows is run."""
        return self.paused or bool(self.breaker)


class Service:
    """What the database ``using`` knows of that, read once; few rows, however many are run."""

    def __init__(self, using: str) -> None:
        self._pauses = pauses.current(using)
        living = list(Worker.objects.using(using).living().with_now())
        ready = [each for each in living if each.state == WorkerStatus.READY]
        self._served = [set(each.served) for each in ready]
        self._targets = {
            model._meta.label for model in stator_models(using) if model.state_graph.triggers
        }
        self._paces: defaultdict[tuple[str, str], Pace] = defaultdict(Pace)
        for worker in living:
            for told in worker.pace:
                self._paces[told["model"], told["state"]].add(told)

    def workers(self, model: Any) -> int:
        """The number of living workers that take up rows of ``model``.

        Whoever runs the rows of a model delivers their events; of all events it is the number for
        the model that has the fewest. Bulk actions are taken up by workers that have an admin.
        """
        if is_companion(model) and not is_event(model):
            part = f"{declaring_model(model)._meta.label}["
            return sum(any(each.startswith(part) for each in some) for some in self._served)
        labels = self._targets if is_event(model) else {declaring_model(model)._meta.label}
        return min((sum(each in some for some in self._served) for each in labels), default=0)

    def pace(self, model: Any, state: str) -> Pace:
        """The pace of the rows in a state, as living workers told it last."""
        return self._paces[declaring_model(model)._meta.label, state]

    def held_back(self, model: Any, state: str) -> HeldBack:
        """What is paused of the rows in a state."""
        label = declaring_model(model)._meta.label
        paused, keys, breaker = False, set(), ""
        for each in self._pauses:
            if not each.is_about(label, state, ""):
                target = each.model if is_event(model) and each.model in self._targets else ""
                if target and each.is_about(label, state, target):
                    keys.add(target)
            elif each.kind == Pause.Kind.BREAKER:
                breaker = HALF_OPEN if each.on_trial else OPEN
            elif each.digest:
                keys.add(each.digest)
            else:
                paused = True
        return HeldBack(paused, len(keys), breaker)

"""Models with a life and a base or a field of another package."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from safedelete.models import SafeDeleteModel
from simple_history.models import HistoricalRecords
from treebeard.mp_tree import MP_Node

from django_fsmworker.graph import State, StateGraph
from django_fsmworker.models import StateField, StatorModel


class TicketStates(StateGraph):
    opened = State(start_after=60, max_attempts=2, backoff=lambda failures: 0)
    waiting = State(manual=True)
    answered = State()
    closed = State(delete_after=timedelta(days=1))
    broken = State()

    opened.transitions_to(waiting)
    opened.transitions_to(answered)
    opened.transitions_to(closed)
    waiting.transitions_to(answered)
    opened.fails_to(broken)

    @classmethod
    def check_opened(cls, ticket: Ticket) -> State:
        if ticket.subject == "bad":
            raise RuntimeError("nobody understands it")
        return cls.answered


class Ticket(StatorModel):
    state = StateField(TicketStates)
    subject = models.CharField(max_length=100)


class TracedTicket(StatorModel):
    state = StateField(TicketStates)
    subject = models.CharField(max_length=100)
    history = HistoricalRecords()


class FolderStates(StateGraph):
    used = State(manual=True)
    emptied = State(delete_after=timedelta(days=1))

    used.transitions_to(emptied)


class Folder(MP_Node, StatorModel):
    state = StateField(FolderStates)
    name = models.CharField(max_length=100)


class Letter(SafeDeleteModel, StatorModel):
    state = StateField(FolderStates)


class Note(StatorModel):
    """Soft deletion written by hand, without a manager that hides what is deleted."""

    state = StateField(FolderStates)
    deleted = models.BooleanField(default=False)

    def delete(self, *args: object, **kwargs: object) -> tuple[int, dict[str, int]]:
        self.deleted = True
        self.save(update_fields=["deleted"])
        return 1, {"app.Note": 1}


class MemoStates(StateGraph):
    used = State(manual=True)
    emptied = State(manual=True, delete_after=timedelta(days=1))
    archived = State()

    used.transitions_to(emptied)
    emptied.transitions_to(archived)


class Memo(StatorModel):
    """The same, but what is deleted leaves its state."""

    state = StateField(MemoStates)
    deleted = models.BooleanField(default=False)

    def delete(self, *args: object, **kwargs: object) -> tuple[int, dict[str, int]]:
        self.deleted, self.state = True, "archived"
        self.save()
        return 1, {"app.Memo": 1}

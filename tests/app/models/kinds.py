"""One life, led by every kind of model: each sort of key, and each sort of inheritance."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models
from django.db.models import Q

from django_fsmworker.graph import EventInfo, State, StateGraph
from django_fsmworker.models import StateField, StatorModel


class KindStates(StateGraph):
    """A row goes where it wishes to."""

    new = State(retry_after=60, max_attempts=1)
    stuck = State(retry_after=60, max_attempts=1)
    asked = State(retry_after=60)
    done = State(delete_after=3600)
    failed = State()

    new.transitions_to(asked, when=Q(wish="ask"))
    new.transitions_to(done, stuck)
    new.fails_to(failed)
    stuck.transitions_to(done)
    asked.transitions_to(done, when=Q(wish="end"))
    new.on("finish", to=done, when=~Q(wish="fail"), action="hear")

    @classmethod
    def hear(cls, row: Any, event: EventInfo) -> None:
        row.wish = event.context["wish"]

    @classmethod
    def check_new(cls, row: Any) -> Any:
        return WISHES[row.wish](cls, row)

    @classmethod
    def check_stuck(cls, row: Any) -> Any:
        raise RuntimeError("it stays here")


def fail(states: Any, row: Any) -> Any:
    raise RuntimeError(f"{row.wish} it shall")


WISHES: dict[str, Any] = {
    "done": lambda states, row: states.done,
    "stay": lambda states, row: None,
    "stuck": lambda states, row: states.stuck,
    "fail": fail,
}


class Kind(StatorModel):
    """An abstract middle: it declares the state, its children have the tables."""

    state = StateField(KindStates)
    wish = models.CharField(max_length=20, default="done")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self._meta.model_name} {self.pk}"


class BigKind(Kind):
    id = models.BigAutoField(primary_key=True)


class ProxyKind(BigKind):
    class Meta:
        proxy = True


class UUIDKind(Kind):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)


class TextKind(Kind):
    code = models.CharField(max_length=40, primary_key=True)


class RelatedKind(Kind):
    owner = models.OneToOneField(UUIDKind, on_delete=models.CASCADE, primary_key=True)


class CompositeKind(Kind):
    pk = models.CompositePrimaryKey("tenant", "code")
    tenant = models.IntegerField()
    code = models.CharField(max_length=40)


class SecondMiddle(Kind):
    note = models.CharField(max_length=20, blank=True)

    class Meta:
        abstract = True


class GrandchildKind(SecondMiddle):
    class Meta:
        verbose_name = "grandchild"


class ParentKind(Kind):
    """Declares the life of all its multi-table children."""


class ChildKind(ParentKind):
    size = models.IntegerField(default=0)


class Leaf(ChildKind):
    colour = models.CharField(max_length=20, blank=True)


class Label(models.Model):
    label = models.BigAutoField(primary_key=True)
    text = models.CharField(max_length=20, blank=True)

    def __str__(self) -> str:
        return self.text


class LabelledKind(Label, ParentKind):  # type: ignore[misc]
    """Its key is another than that of the row that has the state."""


class Document(models.Model):
    """Knows nothing of lives."""

    wish = models.CharField(max_length=20, default="done")
    pages = models.IntegerField(default=1)

    class Meta:
        ordering = ("-pages",)

    def __str__(self) -> str:
        return f"document {self.pk}"


class InvoiceKind(StatorModel, Document):
    """A multi-table child that declares the life; what it wishes is in its parent's table."""

    state = StateField(KindStates)
    total = models.IntegerField(default=0)


class Reminder(InvoiceKind):
    """A child of the child."""

    times = models.IntegerField(default=1)


class VisibleManager(models.Manager["ManagedKind"]):
    def get_queryset(self) -> models.QuerySet[ManagedKind]:
        return super().get_queryset().filter(visible=True)


class ManagedKind(Kind):
    """Its own manager hides its rows."""

    visible = models.BooleanField(default=False)

    objects = VisibleManager()  # type: ignore[assignment, misc]


class RoutedKind(Kind):
    """Is written to another database, by the router of the tests."""

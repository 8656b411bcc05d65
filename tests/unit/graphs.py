"""Graphs made of their members, without a class body, and what is said of one that is refused."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Q

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import State, StateGraph

check = classmethod(lambda cls, row: None)

PAID, LATE = Q(paid=True), Q(late=True)


def define(edges=lambda **states: None, **members) -> Any:
    """Create ``Graph`` with these members; ``edges`` gets the states and declares transitions."""
    edges(**{name: value for name, value in members.items() if isinstance(value, State)})
    return type("Graph", (StateGraph,), members)


def derive(parent, **members) -> Any:
    return type("Child", (parent,), members)


def refusal(edges=lambda **states: None, **members):
    with pytest.raises(GraphError) as caught:
        define(edges, **members)
    return str(caught.value)


def straight(new, done, **others):
    new.transitions_to(done)


def guarded(new, done, **others):
    new.transitions_to(done, when=PAID)

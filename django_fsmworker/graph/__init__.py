"""State graphs: the lives that rows may lead. Nothing here touches Django models or a database."""

from __future__ import annotations

from django_fsmworker.graph.backoff import Backoff, constant, exponential, linear
from django_fsmworker.graph.durations import Duration
from django_fsmworker.graph.events import EventInfo
from django_fsmworker.graph.limits import Breaker, LimitOptions, Limits, Rate
from django_fsmworker.graph.stategraph import StateGraph
from django_fsmworker.graph.states import EventTransition, Lifetime, State, Transition

__all__ = [
    "Backoff",
    "Breaker",
    "Duration",
    "EventInfo",
    "EventTransition",
    "Lifetime",
    "LimitOptions",
    "Limits",
    "Rate",
    "State",
    "StateGraph",
    "Transition",
    "constant",
    "exponential",
    "linear",
]

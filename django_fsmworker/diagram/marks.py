"""What is written on a diagram beside the graph itself: numbers, links, the way of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from django_fsmworker.diagram.description import Edge


@dataclass(frozen=True, slots=True)
class StateMark:
    """Of one state: ``facts`` are short lines in its box, ``said`` is the same in words.

    ``url`` is where a click leads. ``tone`` is ``""``, ``"failing"``, ``"current"`` or
    ``"passed"``.
    """

    facts: tuple[str, ...] = ()
    said: str = ""
    url: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class EdgeMark:
    """Of one edge: ``facts`` are short lines below its label; ``passed``: it was taken."""

    facts: tuple[str, ...] = ()
    passed: bool = False


@dataclass(frozen=True, slots=True)
class Marks:
    """All marks of a diagram; states by their names.

    ``dimmed``: what has no mark stands back. ``title`` names the picture; ``key`` is the beginning
    of its ids, which have to be unique on a page.
    """

    states: Mapping[str, StateMark] = field(default_factory=dict)
    edges: Mapping[Edge, EdgeMark] = field(default_factory=dict)
    dimmed: bool = False
    title: str = ""
    key: str = "fsmworker-map"

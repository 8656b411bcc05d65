"""One edge of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from django_fsmworker.graph.states import State

Kind: TypeAlias = Literal["check", "timeout", "failure"]


@dataclass(frozen=True)
class Transition:
    """A declared way from ``source`` to ``target``.

    ``kind`` says who takes it: "check" when the check (or code) asks for it, "timeout" when the row
    has been in ``source`` for ``after`` seconds, "failure" after the last allowed failure.
    """

    source: State
    target: State
    kind: Kind
    after: float | None = None
    # What else decides about an edge, such as a guard (``when``) or an event's name, goes here.

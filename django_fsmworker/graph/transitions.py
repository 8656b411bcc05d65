"""One edge of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from django_fsmworker.graph.states import State

Kind: TypeAlias = Literal["check", "guard", "timeout", "failure"]


@dataclass(frozen=True)
class Transition:
    """A declared way from ``source`` to ``target``.

    ``kind`` says who takes it: "check" when the check (or code) asks for it, "guard" when the
    database finds the condition ``when`` true of the row, "timeout" when the row has been in
    ``source`` for ``after`` seconds, "failure" after the last allowed failure.
    """

    source: State
    target: State
    kind: Kind
    after: float | None = None
    when: Any = None
    # What else decides about an edge, such as an event's name, goes here.

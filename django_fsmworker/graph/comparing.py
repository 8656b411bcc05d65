"""A state as a value: it is no ``str``, but stands for its name wherever one is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from django_fsmworker.graph.places import Place


class ComparesAsName:
    """Compares and hashes as the name it has in its graph; two of them are equal if identical."""

    place: Place | None
    name: str = ""
    """Its name there; empty while the graph's class body still runs."""

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<State {self.place.path}>" if self.place else "<State without a graph>"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ComparesAsName):
            return self is other
        if isinstance(other, str):
            return self.place is not None and self.name == other
        return NotImplemented

    def __hash__(self) -> int:
        if self.place is None:
            # Its hash would change with its name, and the set or dict would lose it.
            raise TypeError("A State can be hashed only after its graph's class is complete.")
        return hash(self.name)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

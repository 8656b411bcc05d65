"""A case: what is measured, and what has to come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.requirements import Requirement
from benchmarks.results import Series


@dataclass(frozen=True)
class Case:
    """``about`` is for the page; ``databases`` are the vendors on which it can be measured."""

    name: str
    title: str
    measure: Callable[[Bench], list[Series]]
    requirements: Sequence[Requirement]
    databases: Sequence[str] = ("postgresql",)
    about: str = ""

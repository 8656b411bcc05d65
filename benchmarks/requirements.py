"""What has to hold: a number computed from a case's series, and where its limit lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from benchmarks.results import CaseResult


class Verdict(Enum):
    HOLDS = "yes"
    MISSED = "no"
    UNKNOWN = "not measured"
    WRONG = "no: not once each"


@dataclass(frozen=True)
class Requirement:
    """``reached`` computes the number; it may raise ``KeyError`` for a series that is not there.

    ``unit`` follows the number in print: "x the floor", "ms".
    """

    what: str
    limit: float
    unit: str
    reached: Callable[[CaseResult], float]
    at_most: bool = False
    digits: int = 2
    # What is known about why it is not reached, if it is not.
    why: str = ""
    # Another requirement that is as good as this one.
    otherwise: Requirement | None = None

    @property
    def target(self) -> str:
        own = f"{'at most' if self.at_most else 'at least'} {self.shown(self.limit)}"
        return f"{own}, or {self.otherwise.target}" if self.otherwise else own

    def shown(self, value: float) -> str:
        return f"{value:,.{self.digits}f} {self.unit}"

    def holds(self, result: CaseResult) -> bool:
        value = self.reached(result)
        kept = value <= self.limit if self.at_most else value >= self.limit
        return kept or (self.otherwise is not None and self.otherwise.holds(result))

    def said(self, result: CaseResult) -> str:
        """What was reached, in words."""
        own = self.shown(self.reached(result))
        return f"{own}, {self.otherwise.said(result)}" if self.otherwise else own


@dataclass(frozen=True)
class Line:
    """A requirement and what came of it, as it is printed."""

    case: str
    what: str
    target: str
    reached: str
    verdict: Verdict
    value: float | None = None
    limit: float = 0.0
    why: str = ""


def line(requirement: Requirement, case: str, result: CaseResult | None) -> Line:
    """Judge a requirement by a result, which may be missing, failed, or not proven."""
    what, target = requirement.what, requirement.target
    unknown = Line(case, what, target, "–", Verdict.UNKNOWN, None, requirement.limit)
    if result is None or result.error:
        return unknown
    try:
        value, said = requirement.reached(result), requirement.said(result)
        kept = requirement.holds(result)
    except KeyError:
        return unknown
    verdict = Verdict.HOLDS if kept else Verdict.MISSED
    if any(each.problems for each in result.series if not each.peer):
        verdict = Verdict.WRONG
    return Line(case, what, target, said, verdict, value, requirement.limit, requirement.why)

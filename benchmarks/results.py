"""What was measured, raw: kept as JSON, merged case by case, judged elsewhere."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Mismatch(Exception):
    """Measurements that do not belong together; the message says why."""


@dataclass
class Series:
    """One contender with one setting in one case: a value for each run.

    ``problems`` are the sentences of the proof; ``extra`` holds further lists of numbers by name.
    """

    name: str
    settings: str
    unit: str
    peer: bool = False
    values: list[float] = field(default_factory=list)
    number: int = 0
    problems: list[str] = field(default_factory=list)
    extra: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class CaseResult:
    """``error`` says why nothing was measured; ``steal`` is in percent, ``load`` at the start."""

    name: str
    taken: str
    command: str
    seconds: float = 0.0
    steal: float = 0.0
    load: float = 0.0
    series: list[Series] = field(default_factory=list)
    error: str = ""

    def one(self, name: str, settings: str | None = None) -> Series:
        """The series of a contender; ``KeyError`` if it was not measured."""
        for each in self.series:
            if each.name == name and settings in (None, each.settings) and each.values:
                return each
        raise KeyError(f"{self.name} has no series {name!r} {settings or ''}".rstrip())


@dataclass
class Results:
    """All cases of one machine, with what they were measured on."""

    facts: dict[str, dict[str, str]] = field(default_factory=dict)
    cases: dict[str, CaseResult] = field(default_factory=dict)

    def add(self, case: CaseResult) -> None:
        """A case that was measured before is replaced."""
        self.cases[case.name] = case

    def merged_with(self, earlier: Results) -> Results:
        """These results, and the earlier ones of other cases; ``Mismatch`` for another machine."""
        for group, facts in self.facts.items():
            for name, value in facts.items():
                before = earlier.facts.get(group, {}).get(name, value)
                if before != value:
                    raise Mismatch(
                        f"The file was measured with {name} {before!r}, not {value!r}: "
                        f"name another file, or measure all cases again."
                    )
        both = {
            group: earlier.facts.get(group, {}) | self.facts.get(group, {})
            for group in earlier.facts | self.facts
        }
        return Results(both, earlier.cases | self.cases)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_lines(_rounded(dataclasses.asdict(self))))

    @classmethod
    def load(cls, path: Path) -> Results:
        data = json.loads(path.read_text())
        cases = {name: _case(each) for name, each in data["cases"].items()}
        return cls(data["facts"], cases)


def _lines(data: Mapping[str, Any]) -> str:
    """JSON with a line for each group of facts and for each series: a diff says which changed."""
    facts = ",\n".join(f"  {_pair(name, group)}" for name, group in data["facts"].items())
    cases = ",\n".join(f"  {_pair(name, each, 'series')}" for name, each in data["cases"].items())
    return f'{{\n "facts": {{\n{facts}\n }},\n "cases": {{\n{cases}\n }}\n}}\n'


def _pair(name: str, value: Mapping[str, Any], spread: str = "") -> str:
    """A member of an object on one line, but for its ``spread``: a list that has a line each."""
    head = json.dumps({key: each for key, each in value.items() if key != spread})
    if spread:
        each = ",\n".join(f"   {json.dumps(one)}" for one in value[spread])
        head = f"{head[:-1]}, {json.dumps(spread)}: [\n{each}\n  ]}}"
    return f"{json.dumps(name)}: {head}"


def _case(data: Mapping[str, Any]) -> CaseResult:
    series = [Series(**each) for each in data["series"]]
    return CaseResult(**{**data, "series": series})


def _rounded(value: Any) -> Any:
    """Five significant digits: more would only be noise, and make every difference longer."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value

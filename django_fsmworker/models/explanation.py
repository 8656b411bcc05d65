"""Why a row does not move: the answer, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django_fsmworker.logs import shown


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that keeps a row where it is, or tells what will happen to it."""

    code: str
    """What it is, in a word that stays: ``"parked"``."""

    sentence: str
    """The same as a sentence, with the evidence in it."""

    remedy: str = ""
    """What would move the row; empty where nothing has to be done."""

    evidence: Mapping[str, Any] = field(default_factory=dict)
    """What the sentence rests on, by name: times, counts, names, the last error."""

    blocks: bool = True
    """Whether it alone keeps a claim from taking the row now."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a row does not move, as of one moment; ``str()`` of it is a few lines for people."""

    model: str
    """The label of the model that declares the row's state."""

    pk: Any
    """The key of the row; a tuple if it is composite."""

    state: str
    """The name of the state that the row is in."""

    since: datetime
    """When it entered that state."""

    at: datetime
    """When it was asked, by the database's clock."""

    reasons: tuple[Reason, ...]
    """The reasons, the ones that count most first."""

    @property
    def claimable(self) -> bool:
        """Whether a runner that serves the model would take the row now."""
        return not any(reason.blocks for reason in self.reasons)

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes of the reasons, in their order."""
        return tuple(reason.code for reason in self.reasons)

    def as_dict(self) -> dict[str, Any]:
        """The explanation in plain types, for JSON with Django's encoder."""
        reasons = [{**asdict(reason), "evidence": dict(reason.evidence)} for reason in self.reasons]
        return {
            "model": self.model,
            "pk": self.pk,
            "state": self.state,
            "since": self.since,
            "at": self.at,
            "claimable": self.claimable,
            "reasons": reasons,
        }

    def __str__(self) -> str:
        lines = [f"{self.model} {shown(self.pk)} is in the state {self.state}."]
        for reason in self.reasons:
            lines.append(f"- {shown(reason.sentence)}")  # a reason or a message may be in it
            if reason.remedy:
                lines.append(f"  {reason.remedy}")
        return "\n".join(lines)

"""A graph as JSON, for other tools."""

from __future__ import annotations

import json
from dataclasses import asdict

from django_fsmworker.diagram.description import Diagram


def render(diagram: Diagram) -> str:
    """An object with ``name``, ``states`` and ``edges``."""
    return json.dumps(asdict(diagram), indent=2, ensure_ascii=False)

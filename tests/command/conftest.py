from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command


@dataclass(frozen=True)
class Ended:
    """How the command ended, and what it printed."""

    code: int
    output: str
    errors: str = ""

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()

    @property
    def data(self) -> Any:
        return json.loads(self.output)


@pytest.fixture
def stator() -> Callable[..., Ended]:
    """``stator("explain", "app.Model", "1")``: the command, called in this process."""

    def call(*arguments: Any) -> Ended:
        stdout, stderr, code = StringIO(), StringIO(), 0
        try:
            call_command("stator", *map(str, arguments), stdout=stdout, stderr=stderr)
        except SystemExit as exit:
            code = int(exit.code or 0)
        return Ended(code, stdout.getvalue(), stderr.getvalue())

    return call

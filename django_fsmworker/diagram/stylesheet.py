"""The style of pictures by themselves, made from the style sheet of pages."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

SHEET = Path(__file__).parent.parent / "static/django_fsmworker/diagram.css"
VARIABLE = re.compile(r"var\((--[\w-]+), (#\w+)\)")
COMMENT = re.compile(r"/\*.*?\*/\s*", re.DOTALL)

DARK = {
    "--body-bg": "#121212",
    "--body-fg": "#eeeeee",
    "--body-quiet-color": "#d0d0d0",
    "--darkened-bg": "#212121",
    "--fsmworker-failed": "#ff9c9c",
    "--fsmworker-failing": "#f2b45a",
    "--fsmworker-working": "#8cc8f0",
    "--link-fg": "#81d4fa",
    "--selected-row": "#00363a",
}
"""The colours of the admin's dark theme, and of this package's."""


@cache
def style_of_its_own() -> str:
    """All rules with their colours written out, for light and dark."""
    rules = COMMENT.sub("", SHEET.read_text())
    light = VARIABLE.sub(lambda found: found[2], rules)
    dark = VARIABLE.sub(lambda found: DARK[found[1]], _coloured(rules))
    return f"\n{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n"


def _coloured(rules: str) -> str:
    """The rules that name a colour."""
    return "".join(f"{rule}}}\n" for rule in rules.split("}\n") if VARIABLE.search(rule))

"""The pages of the documentation, as the tests read them."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
FENCE = re.compile(r"^```(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read(page: str) -> str:
    return (DOCS / page).read_text()


def blocks(text: str) -> list[tuple[str, str]]:
    """The Python in a page: ``python`` is executed, ``pycon`` is compared with its output."""
    found = FENCE.findall(text)
    return [(language, code) for language, code in found if language in ("python", "pycon")]

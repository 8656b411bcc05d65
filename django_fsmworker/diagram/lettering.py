"""How much room text takes, and how it is broken into lines, where no font can be asked."""

from __future__ import annotations

import re
from unicodedata import east_asian_width

NARROW = frozenset("ijl.,:;'|!()[]{}frt ·-")
WIDE = frozenset("mwMW@%~")

# What XML has no place for, and what would end a line.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u2028\u2029]+")


def width_of(text: str, size: float) -> float:
    """About how wide ``text`` is in a sans-serif font of that size."""
    return size * sum(map(_share, text))


def _share(character: str) -> float:
    if character in NARROW:
        return 0.36
    if character in WIDE:
        return 0.92
    if east_asian_width(character) in "WF":
        return 1.05
    return 0.7 if character.isupper() else 0.58


def clean(text: str) -> str:
    """``text`` on one line, without characters that no XML may have."""
    return CONTROL.sub(" ", text).strip()


def lines_of(text: str, longest: int, most: int) -> tuple[str, ...]:
    """``text`` in at most ``most`` lines of up to ``longest`` characters; what is left out is …"""
    lines: list[str] = []
    for word in clean(text).split():
        if lines and len(lines[-1]) + 1 + len(word) <= longest:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    kept = [line if len(line) <= longest else f"{line[: longest - 1]}…" for line in lines[:most]]
    if len(lines) > most:
        kept[-1] = f"{kept[-1][: longest - 1].rstrip('…')}…"
    return tuple(kept)

"""A little SVG: text, bars and lines, in colours that can be read on white and on black."""

from __future__ import annotations

from html import escape

INK = "#6e7781"
FAINT = "#8c959f"
OURS = "#2f81f7"
OTHERS = "#9a8cbf"
FLOOR = "#9aa3ad"
GOOD, BAD = "#2da44e", "#d1632c"

FONT = "font-family='system-ui, sans-serif'"


def text(x: float, y: float, words: str, *, size: int = 12, anchor: str = "start") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' fill='{INK}'>"
        f"{escape(words)}</text>"
    )


def bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    return (
        f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(width, 0.5):.1f}' height='{height:.1f}' "
        f"rx='2' fill='{colour}'/>"
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str = FAINT, width: float = 1) -> str:
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' "
        f"stroke='{colour}' stroke-width='{width:g}'/>"
    )


def document(width: float, height: float, title: str, parts: list[str]) -> str:
    """The whole file; `title` is what a screen reader says."""
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' "
        f"width='{width:.0f}' height='{height:.0f}' {FONT} role='img'>"
    )
    return "\n".join([head, f"<title>{escape(title)}</title>", *parts, "</svg>"]) + "\n"

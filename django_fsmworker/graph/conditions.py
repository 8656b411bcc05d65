"""Conditions of guards and events, in a line that people can read."""

from __future__ import annotations

from typing import Any


def condition_text(when: Any) -> str:
    """``paid=True and not (amount__gt=10)`` for a ``Q``; for what else it may be, its own text.

    A ``Q`` is told by its parts, without importing it: a graph is plain Python.
    """
    if hasattr(when, "connector") and hasattr(when, "children"):
        return _of_q(when, outermost=True)
    name = getattr(when, "__qualname__", None) or getattr(when, "__name__", None)
    return str(name or when)


def _of_q(q: Any, outermost: bool = False) -> str:
    parts = [_part(child) for child in q.children]
    text = f" {str(q.connector).lower()} ".join(parts)
    if q.negated:
        return f"not ({text})"
    return text if outermost or len(parts) == 1 else f"({text})"


def _part(child: Any) -> str:
    if isinstance(child, tuple):
        name, value = child
        return f"{name}={value!r}"
    return condition_text(child) if not hasattr(child, "connector") else _of_q(child)

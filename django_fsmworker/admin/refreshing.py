"""Pages that load themselves again, at a rate that is chosen on top of them."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

RATES = (5, 15, 60)
"""Seconds between two loads, to choose from; by default a page stays as it is."""


def refresh_context(request: HttpRequest) -> dict[str, Any]:
    """What the template ``refreshed.html`` shows: the rates, and the one that was chosen."""
    return {"rates": RATES, "refresh": _chosen(request), "kept": kept_rate(request)}


def kept_rate(request: HttpRequest) -> str:
    """The end of an address that leads back to a page at the rate that was chosen, if any was."""
    rate = _chosen(request)
    return "" if rate is None else f"?refresh={rate}"


def _chosen(request: HttpRequest) -> int | None:
    chosen = request.GET.get("refresh", "")
    return int(chosen) if chosen in map(str, RATES) else None

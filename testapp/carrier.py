"""A parcel service that is not there: it gives the same tracking number for the same key."""

from __future__ import annotations

from hashlib import sha256
from typing import Any


def ship(order: Any, key: str) -> str:
    """Send the order off; calling twice with one ``key`` ships once."""
    return sha256(key.encode()).hexdigest()[:12]

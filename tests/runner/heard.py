"""What signals say while somebody listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.dispatch import Signal


@contextmanager
def heard(signal: Signal, sender: Any) -> Iterator[list[dict[str, Any]]]:
    """What the signal says meanwhile, each with what the database held at that moment."""
    told: list[dict[str, Any]] = []

    def receive(sender: Any, signal: Signal, **said: Any) -> None:
        row = sender.objects.filter(pk=said["pk"]).first()
        told.append({**said, "in_transaction": connection.in_atomic_block, "row": row})

    signal.connect(receive, sender=sender)
    try:
        yield told
    finally:
        signal.disconnect(receive, sender=sender)

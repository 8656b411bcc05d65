"""Telling listeners that rows were moved, after the commit and at no cost while nobody listens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import transaction

from django_fsmworker.models.discovery import declaring_model
from django_fsmworker.signals import state_changed


def announce_moved(
    model: Any,
    moved: Iterable[tuple[Any, str | None]],
    target: str,
    using: str,
    cause: str = "forced",
) -> None:
    """Send ``state_changed`` for each ``(pk, source)``, once this transaction is committed.

    Its sender is the model that declares the state, whichever proxy or child was moved.
    A receiver that raises is logged by Django and disturbs nobody.
    """
    model = declaring_model(model)
    if not state_changed.has_listeners(model):
        return
    rows = list(moved)

    def send() -> None:
        for pk, source in rows:
            state_changed.send_robust(
                sender=model, pk=pk, source=source, target=target, cause=cause, using=using
            )

    transaction.on_commit(send, using=using)

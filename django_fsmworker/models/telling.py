"""Who moves rows and why; the signal ``state_changed``, and the events that wait for a move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Model

from django_fsmworker.models.engine import engine
from django_fsmworker.models.keys import declaring_model
from django_fsmworker.signals import state_changed

_mover: ContextVar[tuple[Any, str]] = ContextVar("fsmworker_moved_by", default=(None, ""))


@contextmanager
def moved_by(by: Any, reason: str = "") -> Iterator[None]:
    """Say who moves the rows that are moved in this block by code, and why.

    ``with moved_by(request.user, "checked by hand"): …``. It holds for ``save()``,
    ``state_move()``, ``state_transition()`` and ``state_transition_queryset()``, unless a call says
    ``by`` or ``reason`` itself, in this thread or task only. The signal ``state_changed`` and the
    transition log get it.
    """
    before = _mover.set((by, reason))
    try:
        yield
    finally:
        _mover.reset(before)


def mover(by: Any, reason: str) -> tuple[Any, str]:
    """``by`` and ``reason`` as a call has given them, or else those of the block around it."""
    around, why = _mover.get()
    return around if by is None else by, reason or why


def send_state_changed(
    model: type[Model],
    moved: Iterable[tuple[Any, str | None]],
    target: str,
    using: str,
    cause: str = "forced",
    *,
    by: Any = None,
    reason: str = "",
    trigger: str | None = None,
) -> None:
    """Send ``state_changed`` for each ``(key, source)``, once this transaction is committed.

    The sender is the model that declares the state, whichever proxy or child was moved. It costs
    nothing while nobody listens.
    """
    model = declaring_model(model)
    if state_changed.has_listeners(model):
        told = {"by": by, "reason": reason, "trigger": trigger}
        send = partial(send_committed_change, model, list(moved), target, using, cause, **told)
        transaction.on_commit(send, using=using)


def send_committed_change(
    model: type[Model],
    moved: Iterable[tuple[Any, str | None]],
    target: str,
    using: str,
    cause: str,
    *,
    by: Any = None,
    reason: str = "",
    trigger: str | None = None,
) -> None:
    """Send ``state_changed`` for each ``(key, source)`` at once; ``model`` declares the state.

    A receiver that raises is logged by Django and affects no other.
    """
    for pk, source in moved:
        state_changed.send_robust(
            sender=model,
            pk=pk,
            source=source,
            target=target,
            cause=cause,
            using=using,
            by=by,
            reason=reason,
            trigger=trigger,
        )


def wake_events(model: Any, keys: list[Any], using: str) -> None:
    """Make the events due that these rows did not take before they moved, if there can be any."""
    if model.state_graph.triggers:
        engine().wake_events(model, keys, using)

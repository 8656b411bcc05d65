"""The action of an event's transition, run on a locked row."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from asgiref.sync import async_to_sync

from django_fsmworker.graph import EventInfo, EventTransition
from django_fsmworker.graph.callables import is_coroutine_function, refuse_awaitable
from django_fsmworker.graph.events import resolve
from django_fsmworker.models import unsaved
from django_fsmworker.models.fields import changes


def act(row: Any, edge: EventTransition, event: EventInfo) -> None:
    """Call the action of ``edge``, if it has one, and save what it assigned to ``row``.

    It is called on this thread, whose transaction is open, also if it is ``async def``: what it
    asks of the database, it asks on this connection. Fields that it assigned and did not save are
    saved with ``update_fields``. Whatever it raises is raised here.

    Raises ``ValueError`` if it assigned the state, which is the transition's to write, and
    ``TypeError`` if it has to be awaited and does not say so.
    """
    if edge.action is None:
        return
    action = resolve(row.state_graph, edge.action)
    unsaved.watch(row)
    if _is_async(getattr(action, "__func__", action)):
        async_to_sync(action)(row, event)
    else:
        result = action(row, event)
        if result is not None:
            of = f"The action of on({edge.trigger!r}) of {edge.source!r}"
            refuse_awaitable(of, result, "write it, and what decorates it, as async def")
    if "state" in changes(row):
        raise ValueError(
            f"The action of on({edge.trigger!r}) of {edge.source!r} assigned the state of "
            f"{row._meta.label} {row.pk}; nothing was saved. Declare with to= where it leads."
        )
    if names := unsaved.fields(row):
        row.save(update_fields=names)


def _is_async(call: Any) -> bool:
    """Whether ``call`` is ``async def``; remembered, since every event asks, and it takes long."""
    try:
        return _known(call)
    except TypeError:  # an object without a hash
        return is_coroutine_function(call)


_known = lru_cache(maxsize=1000)(is_coroutine_function)

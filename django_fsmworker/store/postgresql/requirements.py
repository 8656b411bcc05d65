"""What PostgreSQL may lack: said by Django's system checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Warning

from django_fsmworker.conf import RunnerSettings


def check_settings(
    connection: Any, models: Sequence[Any], runner: RunnerSettings | None
) -> Iterator[CheckMessage]:
    """Whether its pool, if it has one, is large enough for a runner of ``models``."""
    alias, database = connection.alias, connection.settings_dict
    pool = database.get("OPTIONS", {}).get("pool")
    if not pool:
        return
    options = pool if isinstance(pool, dict) else {}
    size = options.get("max_size") or options.get("min_size", 4)
    if runner is None:
        return
    wanted = connections_of(runner, models)
    if size < wanted:
        yield Warning(
            f"The connection pool of {alias!r} holds {size} connections; the checks of a runner "
            f"use up to {wanted}.",
            hint=f"Set DATABASES[{alias!r}]['OPTIONS']['pool'] = {{'max_size': {wanted}}}.",
            id="fsmworker.W002",
        )


def connections_of(runner: RunnerSettings, models: Sequence[Any]) -> int:
    """How many connections the checks of a runner use; the engine's own are beside the pool."""
    states = [state for model in models for state in model.state_graph.states.values()]
    for_async = runner.async_threads if any(state.is_async for state in states) else 0
    return runner.concurrency + for_async

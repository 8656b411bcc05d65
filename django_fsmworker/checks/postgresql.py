"""What only concerns PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Warning

from django_fsmworker.checks.settings import runner_settings
from django_fsmworker.conf import RunnerSettings

CONNECTIONS_BESIDE_THREADS = 4


def check_postgresql(
    alias: str, database: dict[str, Any], models: Sequence[Any]
) -> Iterator[CheckMessage]:
    """Whether its pool, if it has one, is large enough for a runner of ``models``."""
    pool = database.get("OPTIONS", {}).get("pool")
    if not pool:
        return
    options = pool if isinstance(pool, dict) else {}
    size = options.get("max_size") or options.get("min_size", 4)
    configured = runner_settings()
    if configured is None:
        return
    wanted = connections_of(configured, models)
    if size < wanted:
        yield Warning(
            f"The connection pool of {alias!r} holds {size} connections; a runner uses up to "
            f"{wanted}.",
            hint=f"Set DATABASES[{alias!r}]['OPTIONS']['pool'] = {{'max_size': {wanted}}}.",
            id="fsmworker.W002",
        )


def connections_of(runner: RunnerSettings, models: Sequence[Any]) -> int:
    """How many connections to one database a runner uses at most."""
    states = [state for model in models for state in model.state_graph.states.values()]
    for_async = runner.async_threads + 1 if any(state.is_async for state in states) else 0
    for_guards = any(state.guards for state in states) + any(state.swept for state in states)
    return runner.concurrency + for_async + for_guards + CONNECTIONS_BESIDE_THREADS

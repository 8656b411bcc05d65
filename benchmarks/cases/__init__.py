"""The cases, in the order in which they are measured and shown."""

from __future__ import annotations

from benchmarks.cases import (
    async_io,
    backlog,
    chain,
    delay,
    drain,
    enqueue,
    events,
    guards,
    idle,
    in_flight,
    latency,
    logged,
    mariadb,
    moving,
    processes,
    snapshot,
    sqlite,
    submitting,
    watched,
    wide,
)
from benchmarks.cases.case import Case

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        drain.CASE,
        *backlog.CASES,
        snapshot.CASE,
        in_flight.CASE,
        wide.CASE,
        delay.CASE,
        chain.CASE,
        logged.CASE,
        watched.CASE,
        guards.CASE,
        latency.CASE,
        idle.CASE,
        async_io.CASE,
        sqlite.CASE,
        mariadb.CASE,
        processes.CASE,
        enqueue.CASE,
        moving.CASE,
        submitting.CASE,
        *events.CASES,
    )
}

__all__ = ["CASES", "Case"]

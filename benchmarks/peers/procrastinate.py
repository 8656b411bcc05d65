"""procrastinate: one job a fetch, by stored procedures, on psycopg."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from procrastinate import App, PsycopgConnector

from benchmarks.peers.harness import Client, Note, Script, main

CHUNK = 1000


class ProcrastinateClient(Client):
    def __init__(self, task: Any) -> None:
        self._task = task

    async def one(self, key: int) -> None:
        await self._task.defer_async(key=key)

    async def many(self, keys: range) -> None:
        for start in range(0, len(keys), CHUNK):
            await self._task.batch_defer_async(
                *({"key": key} for key in keys[start : start + CHUNK])
            )


class ProcrastinateScript(Script):
    def _app(self, note: Note = lambda key: None) -> tuple[App, Any]:
        app = App(connector=PsycopgConnector(conninfo=self.url))

        @app.task(name="job")
        async def job(key: int) -> None:
            note(key)

        return app, job

    async def install(self) -> None:
        app, _ = self._app()
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        app, job = self._app()
        async with app.open_async():
            yield ProcrastinateClient(job)

    async def work(self, note: Note, **options: str) -> None:
        app, _ = self._app(note)
        async with app.open_async():
            await app.run_worker_async(**{name: int(value) for name, value in options.items()})


if __name__ == "__main__":
    main(ProcrastinateScript, sys.argv[1:])

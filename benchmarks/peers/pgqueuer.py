"""PgQueuer: jobs in a table of its own, fetched and logged in batches, on asyncpg."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from benchmarks.peers.harness import Client, Note, Script, main

CHUNK = 1000


class PgQueuerClient(Client):
    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def one(self, key: int) -> None:
        await self._queries.enqueue("job", b"%d" % key)

    async def many(self, keys: range) -> None:
        for start in range(0, len(keys), CHUNK):
            some = keys[start : start + CHUNK]
            payloads = [b"%d" % key for key in some]
            await self._queries.enqueue(["job"] * len(some), payloads, [0] * len(some))


class PgQueuerScript(Script):
    async def install(self) -> None:
        connection = await asyncpg.connect(self.url)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        connection = await asyncpg.connect(self.url)
        yield PgQueuerClient(Queries(AsyncpgDriver(connection)))
        await connection.close()

    async def work(self, note: Note, **options: str) -> None:
        pgqueuer = PgQueuer.from_asyncpg_connection(await asyncpg.connect(self.url))

        @pgqueuer.entrypoint("job")
        async def job(job: Any) -> None:
            note(int(job.payload))

        await pgqueuer.run(**{name: int(value) for name, value in options.items()})

    @staticmethod
    def run(main: Coroutine[Any, Any, Any]) -> Any:
        return uvloop.run(main)


if __name__ == "__main__":
    main(PgQueuerScript, sys.argv[1:])

"""Oban: jobs fetched as many as there is demand for, acknowledged together, on psycopg."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from oban import Oban, worker
from oban.schema import install

from benchmarks.peers.harness import Client, Note, Script, main

CHUNK = 1000
LIMIT = 10


@worker(queue="default")
class Job:
    note: Note
    # Made by the decorator.
    new: Any

    async def process(self, job: Any) -> None:
        Job.note(job.args["key"])


class ObanClient(Client):
    def __init__(self, oban: Oban) -> None:
        self._oban = oban

    async def one(self, key: int) -> None:
        await self._oban.enqueue(Job.new({"key": key}))

    async def many(self, keys: range) -> None:
        for start in range(0, len(keys), CHUNK):
            jobs = [Job.new({"key": key}) for key in keys[start : start + CHUNK]]
            await self._oban.enqueue_many(jobs)


class ObanScript(Script):
    async def install(self) -> None:
        pool = await Oban.create_pool(self.url)
        await install(pool)
        await pool.close()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        pool = await Oban.create_pool(self.url)
        async with Oban(pool=pool) as oban:
            yield ObanClient(oban)
        await pool.close()

    async def work(self, note: Note, **options: str) -> None:
        Job.note = staticmethod(note)
        pool = await Oban.create_pool(self.url)
        async with Oban(pool=pool, queues={"default": int(options.get("limit", LIMIT))}):
            await asyncio.Event().wait()

    @staticmethod
    def run(main: Coroutine[Any, Any, Any]) -> Any:
        return uvloop.run(main)


if __name__ == "__main__":
    main(ObanScript, sys.argv[1:])

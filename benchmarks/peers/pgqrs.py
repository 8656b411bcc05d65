"""pgqrs: messages with a time until which they are hidden, in Rust."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pgqrs

from benchmarks.peers.harness import Client, Note, Script, main

QUEUE = "jobs"
CHUNK = 100  # its limit
PAUSE = 0.05
ENQUEUES_PER_SECOND = 10_000_000


class PgqrsClient(Client):
    def __init__(self, producer: Any) -> None:
        self._producer = producer

    async def one(self, key: int) -> None:
        await self._producer.enqueue({"key": key})

    async def many(self, keys: range) -> None:
        for start in range(0, len(keys), CHUNK):
            payloads = [{"key": key} for key in keys[start : start + CHUNK]]
            await pgqrs.enqueue_batch(self._producer, payloads)


class PgqrsScript(Script):
    async def install(self) -> None:
        store = await self._store()
        await pgqrs.admin(store).install()
        await store.queue(QUEUE)

    async def _store(self) -> Any:
        config = pgqrs.Config(self.url)
        # It lets 100 a second pass unless told otherwise; that is not what is measured.
        config.max_enqueue_per_second = config.max_enqueue_burst = ENQUEUES_PER_SECOND
        return await pgqrs.connect_with(config)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        store = await self._store()
        yield PgqrsClient(await store.producer(QUEUE))

    async def work(self, note: Note, **options: str) -> None:
        store = await self._store()
        if "batch" in options:
            await self._batches(store, note, int(options["batch"]))
        async with store.consume_iter(QUEUE) as messages:
            async for message in messages:
                note(message.payload["key"])
                await messages.archive(message.id)

    async def _batches(self, store: Any, note: Note, size: int) -> None:
        consumer = await store.consumer(QUEUE)
        while True:
            messages = await consumer.dequeue(batch_size=size)
            for message in messages:
                note(message.payload["key"])
            if messages:
                await consumer.archive_many([message.id for message in messages])
            else:
                await asyncio.sleep(PAUSE)


if __name__ == "__main__":
    main(PgqrsScript, sys.argv[1:])

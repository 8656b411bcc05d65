"""django-logic: a row's transition in the background, each in a forked process; ``dl_worker``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from django.core.management import call_command

from benchmarks.peers.django_project import configure
from benchmarks.peers.harness import Client, Note, Script, main

QUEUE = "django_logic"
CHUNK = 1000

# Its state lock is kept in Django's cache. One in memory is the fastest there is, and enough here,
# where nobody asks for a transition of a row while another process does.
CACHE = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
configure("django_logic", "benchmarks.peers.logic_jobs", CACHES={"default": CACHE})


class LogicClient(Client):
    """A row has to be there before its transition can be asked for."""

    def __init__(self) -> None:
        from benchmarks.peers.logic_jobs.models import Job

        self._model: Any = Job

    async def one(self, key: int) -> None:
        self._model.objects.create(pk=key).process.run()

    async def many(self, keys: range) -> None:
        for start in range(0, len(keys), CHUNK):
            rows = [self._model(pk=key) for key in keys[start : start + CHUNK]]
            for row in self._model.objects.bulk_create(rows):
                row.process.run()


class LogicScript(Script):
    async def install(self) -> None:
        call_command("migrate", run_syncdb=True, verbosity=0)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        yield LogicClient()

    def work(self, note: Note, **options: str) -> None:
        call_command("dl_worker", queues=QUEUE, concurrency=int(options.get("concurrency", 1)))


if __name__ == "__main__":
    main(LogicScript, sys.argv[1:])

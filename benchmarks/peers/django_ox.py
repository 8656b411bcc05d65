"""django-ox: a model row a task, claimed one by one by threads; ``manage.py ox_worker``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from django.core.management import call_command
from django.tasks import task
from django_ox.bulk import enqueue_many

from benchmarks.peers.django_project import configure, keep_connections
from benchmarks.peers.harness import Client, Note, Script, main

configure("django_ox", TASKS={"default": {"BACKEND": "django_ox.backend.OxBackend"}})

CHUNK = 1000

notes: list[Note] = []


@task
def job(key: int) -> None:
    notes[0](key)


class OxClient(Client):
    async def one(self, key: int) -> None:
        job.enqueue(key)

    async def many(self, keys: range) -> None:
        for start in range(0, len(keys), CHUNK):
            enqueue_many(job, [((key,), {}) for key in keys[start : start + CHUNK]])


class OxScript(Script):
    async def install(self) -> None:
        call_command("migrate", verbosity=0)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        yield OxClient()

    def work(self, note: Note, **options: str) -> None:
        if "concurrency" in options:
            keep_connections()
        notes.append(note)
        call_command("ox_worker", concurrency=int(options.get("concurrency", 1)), verbosity=0)


if __name__ == "__main__":
    # Tasks are found under the module's own name, not as what was started.
    from benchmarks.peers.django_ox import OxScript as Imported

    main(Imported, sys.argv[1:])

"""django-absurd: Absurd's queue of stored procedures behind Django's tasks; ``absurd_worker``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from django.core.management import call_command
from django.tasks import task

from benchmarks.peers.django_project import configure
from benchmarks.peers.harness import Client, Note, Script, main

configure(
    "django_absurd",
    TASKS={"default": {"BACKEND": "django_absurd.backends.AbsurdBackend"}},
)

notes: list[Note] = []


@task
async def job(key: int) -> None:
    # On the worker's event loop; a plain function would take a thread's turn besides.
    notes[0](key)


class AbsurdClient(Client):
    async def one(self, key: int) -> None:
        job.enqueue(key)

    async def many(self, keys: range) -> None:
        for key in keys:
            job.enqueue(key)


class AbsurdScript(Script):
    async def install(self) -> None:
        call_command("migrate", verbosity=0)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        yield AbsurdClient()

    def work(self, note: Note, **options: str) -> None:
        notes.append(note)
        call_command("absurd_worker", **{name: int(value) for name, value in options.items()})


if __name__ == "__main__":
    # Tasks are found under the module's own name, not as what was started.
    from benchmarks.peers.django_absurd import AbsurdScript as Imported

    main(Imported, sys.argv[1:])

"""django-tasks-db: a model row a task, claimed one by one; ``manage.py db_worker``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from django.core.management import call_command
from django.tasks import task

from benchmarks.peers.django_project import configure, keep_connections
from benchmarks.peers.harness import Client, Note, Script, main

configure("django_tasks_db", TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}})

notes: list[Note] = []


@task
def job(key: int) -> None:
    notes[0](key)


class TasksClient(Client):
    async def one(self, key: int) -> None:
        job.enqueue(key)

    async def many(self, keys: range) -> None:
        for key in keys:
            job.enqueue(key)


class TasksScript(Script):
    async def install(self) -> None:
        call_command("migrate", verbosity=0)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        yield TasksClient()

    def work(self, note: Note, **options: str) -> None:
        if "conn_max_age" in options:
            keep_connections()
        notes.append(note)
        call_command("db_worker", verbosity=0)


if __name__ == "__main__":
    # Tasks are found under the module's own name, not as what was started.
    from benchmarks.peers.django_tasks_db import TasksScript as Imported

    main(Imported, sys.argv[1:])

"""django-tasks-db: a model row a task, claimed one by one; ``manage.py db_worker``."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.tasks import task

from tests.benchmarks.peers.harness import Client, Note, Script, main

if not settings.configured:
    parts = urlsplit(os.environ["DATABASE_URL"])
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts.path[1:],
                "USER": parts.username,
                "PASSWORD": parts.password,
                "HOST": parts.hostname,
                "PORT": parts.port,
            }
        },
        INSTALLED_APPS=["django_tasks_db"],
        TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
        USE_TZ=True,
    )
    # The harness waits for coroutines; nothing else runs on its loop.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    django.setup()

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
            connection.settings_dict["CONN_MAX_AGE"] = None
        notes.append(note)
        call_command("db_worker", verbosity=0)


if __name__ == "__main__":
    # Tasks are found under the module's own name, not as what was started.
    from tests.benchmarks.peers.django_tasks_db import TasksScript as Imported

    main(Imported, sys.argv[1:])

"""This package, as its users run it: ``runstator`` in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connections

from benchmarks.contenders.rows import RowContender
from benchmarks.processes import Worker

NAME = "django-fsmworker"
CLAIMS_WAIT = "claims wait for the disk"

# Whatever a statement has said about the commit of its transaction, a claim has said it before its
# update; so this is the last word. The call is made once a statement, which is once a batch.
WAIT_FOR_THE_DISK = """
    CREATE FUNCTION {table}_wait() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM set_config('synchronous_commit', 'on', true); RETURN NULL; END $$;
    CREATE TRIGGER {table}_wait AFTER UPDATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION {table}_wait()"""


class Engine(RowContender):
    """``runstator`` for one model; ``settings`` tells in print what is special about it."""

    name = NAME

    def __init__(
        self,
        model: str,
        alias: str = "default",
        *,
        settings: str | None = None,
        options: Sequence[str] = (),
        url: str | None = None,
        **rows: Any,
    ) -> None:
        super().__init__(model, alias, **rows)
        self.settings = settings or " ".join(options) or "default"
        self._options = options
        self.url = url or self.url

    def labels(self) -> Sequence[str]:
        """The models that are run."""
        return [self.model._meta.label]

    def start(self, folder: Path) -> Worker:
        command = self.python("-m", "django", "runstator", *self.labels(), *self._options)
        return Worker(command, self.environment(folder), folder)


class DurableEngine(Engine):
    """The same on PostgreSQL, where it has no option for it: claims wait for the disk, too."""

    def __init__(self, model: str) -> None:
        super().__init__(model, settings=CLAIMS_WAIT)

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        table = self.model._meta.db_table
        with connections[self.alias].cursor() as cursor:
            cursor.execute(WAIT_FOR_THE_DISK.format(table=table))
            try:
                yield
            finally:
                cursor.execute(f"DROP FUNCTION {table}_wait CASCADE")

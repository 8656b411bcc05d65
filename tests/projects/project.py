"""A project in the shape of a user's: its own settings, a web server, runners, one database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psycopg
from psycopg import sql

from tests.databases import URL_VARIABLES
from tests.paths import ROOT
from tests.runner.processes import Process
from tests.waiting import eventually

LONGEST_COMMAND = 60.0


class Project:
    """Commands, runners and a web server of the project with these settings."""

    def __init__(self, settings: str, environment: dict[str, str]) -> None:
        self._environment = {
            **environment,
            "DJANGO_SETTINGS_MODULE": settings,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        self._processes: list[Process] = []
        self._address = ""

    def manage(self, *arguments: str, code: int = 0, **environment: str) -> Process:
        """``manage.py`` run to its end, which has to be this exit code."""
        process = self.start(*arguments, **environment)
        ended = process.wait(LONGEST_COMMAND)
        assert ended == code, f"{arguments} ended with {ended}: {process.stdout}\n{process.stderr}"
        return process

    def start(self, *arguments: str, **environment: str) -> Process:
        """``manage.py`` in the background."""
        process = Process(arguments, {**self._environment, **environment})
        self._processes.append(process)
        return process

    def start_runner(self, *arguments: str, **environment: str) -> Process:
        """``runstator``, once it says that it runs."""
        runner = self.start("runstator", *arguments, **environment)
        eventually(lambda: runner.started, LONGEST_COMMAND)
        return runner

    def start_web(self) -> None:
        """The project's web server, on a port that is free."""
        server = self.start("runserver", "--noreload", "127.0.0.1:0")

        def address() -> str:
            assert not server.ended, f"{server.stdout}\n{server.stderr}"
            found = re.search(r"at (http://127\.0\.0\.1:\d+)/", server.stdout)
            return found[1] if found else ""

        self._address = eventually(address, LONGEST_COMMAND)

    def get(self, path: str) -> Any:
        """What a page answers, which is JSON."""
        return self._ask(Request(self._address + path))

    def post(self, path: str, code: int = 200, **values: Any) -> Any:
        """Send JSON; the answer has to have this status."""
        body = json.dumps(values).encode()
        return self._ask(Request(self._address + path, body, method="POST"), code)

    def end(self) -> None:
        """End every process that was started."""
        for process in self._processes:
            process.end()

    @staticmethod
    def _ask(request: Request, code: int = 200) -> Any:
        try:
            with urlopen(request, timeout=30) as response:
                answered, body = response.status, response.read()
        except HTTPError as error:
            answered, body = error.code, error.read()
        assert answered == code, f"{request.full_url}: {answered}: {body.decode()[:2000]}"
        return json.loads(body)


@contextmanager
def new_database(vendor: str, folder: Path, environ: dict[str, str]) -> Iterator[str]:
    """The URL of an empty database, which goes with the block."""
    if vendor == "sqlite":
        yield f"sqlite:///{folder / 'project.sqlite3'}"
        return
    server = environ[URL_VARIABLES["postgresql"]]
    name = sql.Identifier("project")
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(server, autocommit=True))
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        stack.callback(connection.execute, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
        yield re.sub(r"/[^/]*$", "/project", server)

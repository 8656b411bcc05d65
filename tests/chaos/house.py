"""A PostgreSQL server of its own, a proxy before it, and a fleet that works through the proxy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg
from django.core.management import call_command
from django.db import connections

from tests.chaos.detour import detour, through
from tests.chaos.proxy import Proxy
from tests.databases import database_url
from tests.postgres import Server, own_server
from tests.runner.processes import Process
from tests.waiting import eventually

LEASE, POLL, DEADLINE = 3.0, 0.2, 4.0
ARGUMENTS = ("-c4", f"--lease={LEASE}", f"--poll-interval={POLL}", f"--deadline={DEADLINE}")
MOST_CONNECTIONS, FLEET = 30, "fleet"


@dataclass
class House:
    """The server that is in use now, and those who use it."""

    server: Server
    proxy: Proxy
    runners: list[Process] = field(default_factory=list)
    _read: dict[int, int] = field(default_factory=dict)

    def leave(self) -> None:
        for runner in self.runners:
            runner.end()
        self.server.stop()

    def execute(self, sql: str) -> list[Any]:
        """Past the proxy and Django, in autocommit."""
        with psycopg.connect(self.server.url, autocommit=True) as direct:
            found = direct.execute(sql)
            return found.fetchall() if found.description else []

    def backends(self, direct: psycopg.Connection[Any]) -> list[int]:
        """Those that serve the fleet, and whoever else comes through the proxy."""
        found = direct.execute(
            "SELECT pid FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND application_name = %s",
            [FLEET],
        )
        return [pid for (pid,) in found]

    def end_all_connections(self) -> int:
        with psycopg.connect(self.server.url, autocommit=True) as direct:
            pids = self.backends(direct)
            direct.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", [pids])
        return len(pids)

    def said(self) -> list[list[str]]:
        """What each runner has said of outages since this was last asked: away, back."""
        return [self._said(runner) for runner in self.runners]

    def said_until_back(self) -> list[list[str]]:
        """The same, when the last word is that it is back."""
        said = self.said()
        for heard, runner in zip(said, self.runners, strict=True):
            while heard[-1:] == ["away"]:
                heard += eventually(partial(self._said, runner))
        return said

    def _said(self, runner: Process) -> list[str]:
        news = runner.stderr[self._read.get(runner.pid, 0) :]
        lines = [line for line in news.splitlines(keepends=True) if line.endswith("\n")]
        self._read[runner.pid] = self._read.get(runner.pid, 0) + sum(map(len, lines))
        return said_of_outages(lines)


def said_of_outages(lines: Iterable[str]) -> list[str]:
    """Away, back: what these lines of a log say, in their order."""
    words = {"The database 'default' is away (": "away", "The database 'default' is back.": "back"}
    return [word for line in lines for text, word in words.items() if text in line]


@contextmanager
def inhabited(environment: dict[str, str], runners: int = 2) -> Iterator[House]:
    """A house whose fleet has nothing to do yet."""
    with ExitStack() as stack:
        server = stack.enter_context(own_server(max_connections=MOST_CONNECTIONS, fsync="off"))
        proxy = stack.enter_context(Proxy(("127.0.0.1", server.port)))
        stack.enter_context(detour(**through(proxy.port, server.url)))
        house = House(server, proxy)
        stack.callback(house.leave)
        call_command("migrate", verbosity=0)
        url = database_url(connections["default"].settings_dict)
        own = {"DATABASE_URL": url, "PGAPPNAME": FLEET}
        for _ in range(runners):
            arguments = ["runstator", "testapp.Chain", *ARGUMENTS]
            house.runners.append(Process(arguments, {**environment, **own}))
        eventually(lambda: all(runner.started for runner in house.runners), 30)
        yield house

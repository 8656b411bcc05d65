"""A database server of its own, a proxy before it, and a fleet that works through the proxy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from django.core.management import call_command
from django.db import connections

from tests.chaos.proxy import Proxy
from tests.chaos.redirect import redirected, through_proxy
from tests.databases import chosen_vendor, database_url
from tests.runner.processes import Process
from tests.waiting import eventually

LEASE, POLL, DEADLINE = 3.0, 0.2, 4.0
ARGUMENTS = ("-c4", f"--lease={LEASE}", f"--poll-interval={POLL}", f"--deadline={DEADLINE}")
MOST_CONNECTIONS, FLEET = 30, "fleet"

# Their drivers and programs are needed only when their turn comes.
CLUSTERS = {"postgresql": "tests.chaos.postgresql_cluster", "mysql": "tests.chaos.mysql_cluster"}


class Cluster(ABC):
    """The server that is in use now, the proxy before it, and the runners that use it."""

    # What a runner's process has in its environment beside its database's URL.
    environment: dict[str, str] = {}

    def __init__(self, server: Any, proxy: Proxy) -> None:
        self.server = server
        self.proxy = proxy
        self.runners: list[Process] = []
        self._read: dict[int, int] = {}

    @property
    @abstractmethod
    def url(self) -> str:
        """Of the fleet's database, past the proxy."""

    @abstractmethod
    def execute(self, sql: str) -> list[Any]:
        """Past the proxy and Django, in autocommit, with every right."""

    @abstractmethod
    def connections(self) -> int:
        """How many there are of those who serve the fleet."""

    @abstractmethod
    def end_all_connections(self) -> int:
        """End those; how many there were."""

    @abstractmethod
    def take_all_connections(self, opened: list[Any]) -> int:
        """Open every connection that clients like the fleet can get; how many are ``opened``."""

    @abstractmethod
    def full_disk(self) -> AbstractContextManager[None]:
        """There is no space left, says the server, for whatever is written to the rows."""

    @abstractmethod
    def read_only(self) -> AbstractContextManager[None]:
        """Nothing may be written, says the server."""

    def close(self) -> None:
        for runner in self.runners:
            runner.end()
        self.server.stop()

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
def running_cluster(environment: dict[str, str], runners: int = 2) -> Iterator[Cluster]:
    """A cluster of the vendor under test, whose runners have nothing to do yet."""
    with ExitStack() as stack:
        start = import_module(CLUSTERS[chosen_vendor()]).started_cluster
        cluster: Cluster = stack.enter_context(start())
        stack.enter_context(redirected(**through_proxy(cluster.proxy.port, cluster.url)))
        stack.callback(cluster.close)
        call_command("migrate", verbosity=0)
        url = database_url(connections["default"].settings_dict)
        own = {"DATABASE_URL": url, **cluster.environment}
        for _ in range(runners):
            arguments = ["runstator", "tests.Chain", *ARGUMENTS]
            cluster.runners.append(Process(arguments, {**environment, **own}))
        eventually(lambda: all(runner.started for runner in cluster.runners), 60)
        yield cluster

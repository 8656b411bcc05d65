"""A peer in its own environment, driven by the verbs of its worker script."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import costs, database
from benchmarks.contenders.interface import Contender
from benchmarks.peers.environments import python_of
from benchmarks.peers.harness import TOGETHER
from benchmarks.peers.roster import Peer, Setting
from benchmarks.processes import Worker, WorkerFailed, outer_environment
from benchmarks.runlog import VARIABLE
from tests.paths import ROOT

VERB_SECONDS = 120
NOTHING_WAITS = "nothing waits for the disk"


class PeerContender(Contender):
    """
    One peer with one setting; each run has a database of its own, made afresh.

    Unless it `waits`, nothing that is committed there waits for the disk.
    """

    peer = True

    def __init__(self, peer: Peer, setting: Setting, server: str, *, waits: bool = True) -> None:
        self.name = peer.name
        self.settings = setting.name if waits else f"{setting.name}, {NOTHING_WAITS}"
        self._peer, self._setting, self._server = peer, setting, server
        self._waits = waits
        self._next = 1
        self._connection: psycopg.Connection[Any] | None = None

    def install(self) -> None:
        """An empty queue in a fresh database."""
        if self._connection is not None:
            self._connection.close()
        name = f"{database.NAME}_{self._peer.module}"
        self.url = database.fresh_database(self._server, name)
        self._connection = psycopg.connect(self.url, autocommit=True)
        if not self._waits:
            self._connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
        self.say("install")

    def prepare(self, number: int) -> Sequence[int]:
        self.install()
        self.say("fill", 1, number)
        self._next = number + 1
        assert self._connection is not None
        self._connection.execute("VACUUM ANALYZE")
        self._connection.execute("CHECKPOINT")
        return range(1, number + 1)

    def start(self, folder: Path) -> Worker:
        together = {TOGETHER: str(self._setting.processes)}
        environment = {**self._environment(), VARIABLE: str(folder), **together}
        command = self._command("work", *self._setting.options)
        return Worker(command, environment, folder, self._setting.processes)

    def hand_over(self, number: int, seconds: float) -> dict[int, float]:
        said = self.say("paced", self._next, number, seconds)
        self._next += number
        return {int(key): moment for key, moment in said.items()}

    def counters(self) -> costs.Counters:
        assert self._connection is not None
        if self._connection.info.server_version >= costs.REPORTS_SINCE:
            self._connection.execute(costs.REPORT)
        return super().counters()

    def left(self) -> int:
        assert self._connection is not None
        try:
            (number,) = self._connection.execute(self._peer.left).fetchone() or (0,)
        except psycopg.Error as error:
            raise WorkerFailed(f"{self.name}'s jobs cannot be counted: {error}") from error
        return int(number)

    def say(self, verb: str, *arguments: float) -> Any:
        """Have the script do something, and return what it said."""
        command = self._command(verb, *map(str, arguments))
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment(), capture_output=True, text=True,
            timeout=VERB_SECONDS,
        )  # fmt: skip
        if done.returncode:
            code, words = done.returncode, done.stderr[-2000:]
            raise WorkerFailed(f"{self.name} could not {verb} (exit code {code}): {words}")
        return json.loads(done.stdout)

    def _command(self, *words: str) -> list[str]:
        return [str(python_of(self._peer)), "-m", f"{MODULES}.{self._peer.module}", *words]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in outer_environment().items() if "DJANGO" not in name}
        return {**kept, "DATABASE_URL": self.url, "PYTHONUNBUFFERED": "1"}


MODULES = "benchmarks.peers"

"""
The protocol between the benchmarks and a peer's worker script; only the standard library.

``python -m benchmarks.peers.NAME VERB …``, with ``DATABASE_URL`` in the environment:

``install``: make the peer's tables.
``fill FIRST COUNT``: enqueue that many jobs by the best means the peer has for many.
``singles FIRST COUNT``: the same one by one.
``paced FIRST COUNT SECONDS``: one by one, so far apart, and say when each was handed over.
``work [OPTION=VALUE …]``: run the peer's worker until SIGTERM.

A job carries one number, its key; its handler does nothing but note it. What a verb has to say it
prints as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from benchmarks.runlog import VARIABLE, noter

Note = Callable[[int], None]

# How many worker processes there are: none begins before all of them have come up, since the time
# that a process takes to start is nobody's cost.
TOGETHER = "BENCHMARK_TOGETHER"
UP = ".up"


class Script(ABC):
    """What each peer's module has to say; ``client()`` opens what enqueues."""

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    async def install(self) -> None: ...

    @abstractmethod
    def client(self) -> AbstractAsyncContextManager[Client]: ...

    @abstractmethod
    def work(self, note: Note, **options: str) -> Coroutine[Any, Any, None] | None:
        """Run until SIGTERM: a coroutine for the event loop, or a call that does not return."""

    @staticmethod
    def run(main: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the event loop that the peer's own command uses."""
        return asyncio.run(main)


class Client(ABC):
    @abstractmethod
    async def one(self, key: int) -> None:
        """Enqueue a job and commit."""

    @abstractmethod
    async def many(self, keys: range) -> None:
        """Enqueue jobs by the peer's own means for many, or one by one if it has none."""


def main(script: type[Script], arguments: list[str]) -> None:
    verb, *rest = arguments
    peer = script(os.environ["DATABASE_URL"])
    if verb == "work":
        options = dict(word.split("=", 1) for word in rest)
        wait_for_the_others(Path(os.environ[VARIABLE]), int(os.environ[TOGETHER]))
        if (work := peer.work(noter(), **options)) is not None:
            peer.run(work)
        return
    said = peer.run(VERBS[verb](peer, *map(float, rest)))
    print(json.dumps(said), flush=True)
    # The threads of pgqrs's extension may outlive the interpreter, and bring the process down.
    os._exit(0)


def wait_for_the_others(folder: Path, number: int) -> None:
    """Until so many processes have left their mark in the folder of the logs."""
    Path(folder, f"{os.getpid()}{UP}").touch()
    while len(list(folder.glob(f"*{UP}"))) < number:
        time.sleep(0.001)


async def _install(peer: Script) -> None:
    await peer.install()


async def _fill(peer: Script, first: float, count: float) -> float:
    async with peer.client() as client:
        began = time.monotonic()
        await client.many(range(int(first), int(first + count)))
        return time.monotonic() - began


async def _singles(peer: Script, first: float, count: float) -> float:
    async with peer.client() as client:
        began = time.monotonic()
        for key in range(int(first), int(first + count)):
            await client.one(key)
        return time.monotonic() - began


async def _paced(peer: Script, first: float, count: float, seconds: float) -> dict[int, float]:
    sent: dict[int, float] = {}
    async with peer.client() as client:
        for key in paced(int(first), int(count), seconds):
            await client.one(key)
            sent[key] = time.monotonic()
    return sent


def paced(first: int, count: int, seconds: float) -> Iterator[int]:
    """Keys, about `seconds` apart: not in step with anything that polls."""
    for key in range(first, first + count):
        time.sleep(seconds * random.uniform(0.8, 1.2))
        yield key


VERBS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {
    "install": _install,
    "fill": _fill,
    "singles": _singles,
    "paced": _paced,
}

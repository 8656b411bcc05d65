"""What belongs to one event loop, such as an HTTP client: made for each loop, closed at its end."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Any, Generic, TypeVar

__all__ = ["PerLoop", "per_loop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """The objects of one ``factory``, one for each event loop that asks."""

    def __init__(self, factory: Callable[[], T]) -> None:
        self._factory = factory
        self._held: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[T, None]]] = {}
        self._lock = threading.Lock()

    def __call__(self) -> T:
        """The running loop's object, made if need be; ``RuntimeError`` where no loop runs."""
        loop = asyncio.get_running_loop()
        held = self._held.get(loop)
        return held[0] if held is not None else self._make(loop)

    def _make(self, loop: asyncio.AbstractEventLoop) -> T:
        # Loops close the async generators that were begun on them, each in its last moment. To
        # begin one takes no await, since this one has none before its ``yield``.
        generator = self._life(loop)
        try:
            generator.asend(None).send(None)
        except StopIteration as first:
            made: T = first.value
        with self._lock:
            for other in [each for each in self._held if each.is_closed()]:
                del self._held[other]
            self._held[loop] = made, generator
        return made

    async def _life(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[T, None]:
        made = self._factory()
        try:
            yield made
        finally:
            with self._lock:
                self._held.pop(loop, None)
            await _close(made)


def per_loop(factory: Callable[[], T]) -> PerLoop[T]:
    """A function that returns one object of ``factory`` for each event loop: ``client()``.

    The object is made when a coroutine first asks on a loop, and closed when that loop ends: by its
    ``aclose()``, ``close()`` or ``__aexit__()``, the first that it has. So all async checks of a
    runner share a client, a loop that replaces a blocked one has its own, and each check in a test
    too. Call it in coroutines only: elsewhere it raises ``RuntimeError``.
    """
    return PerLoop(factory)


async def _close(made: Any) -> None:
    for name in ("aclose", "close"):
        if hasattr(made, name):
            closing = getattr(made, name)()
            break
    else:
        leave = getattr(made, "__aexit__", None)
        closing = leave(None, None, None) if leave is not None else None
    if inspect.isawaitable(closing):
        await closing
    await asyncio.sleep(0)  # sockets are closed one round later

"""Middleware as a project would write it, and what it has seen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

from django_fsmworker.exceptions import TryAgainLater
from django_fsmworker.runner import AttemptInfo

TENANT: ContextVar[str] = ContextVar("tenant", default="")
SEEN: list[AttemptInfo] = []
SAID: list[str] = []


@contextmanager
def tenant(info: AttemptInfo) -> Iterator[None]:
    """Sets a context variable and, as some do, forgets to take it back."""
    SEEN.append(info)
    SAID.append(f"before {TENANT.get()}")
    TENANT.set("acme")
    yield
    SAID.append(f"after, to {info.target}")


@asynccontextmanager
async def calm_tenant(info: AttemptInfo) -> AsyncIterator[None]:
    SEEN.append(info)
    SAID.append(f"calmly before {TENANT.get()}")
    TENANT.set("calm acme")
    yield


@contextmanager
def inner(info: AttemptInfo) -> Iterator[None]:
    SAID.append(f"inside {TENANT.get()}")
    yield


@contextmanager
def refusing(info: AttemptInfo) -> Iterator[None]:
    if info.rows:
        raise PermissionError("nobody comes in")
    yield


@contextmanager
def putting_off(info: AttemptInfo) -> Iterator[None]:
    if info.rows:
        raise TryAgainLater(30)
    yield


@contextmanager
def failing_afterwards(info: AttemptInfo) -> Iterator[None]:
    yield
    raise OSError("the door is stuck")


@contextmanager
def forgiving(info: AttemptInfo) -> Iterator[None]:
    try:
        yield
    except RuntimeError:
        SAID.append("forgiven")


def none_at_all(info: AttemptInfo) -> Any:
    """No context manager, as without the decorator."""

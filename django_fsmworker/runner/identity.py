"""The identity of a runner: its id, its name, and the name of its process in records and logs."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.models.companions import is_companion

LONGEST_NAME = 60
LONGEST_HOST = 64


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of one runner.

    ``databases`` are the aliases of all in which it runs rows. ``incarnation`` is a random number:
    it tells this process from another one with the same id.
    """

    id: str
    name: str
    host: str
    pid: int
    databases: tuple[str, ...] = ()
    incarnation: int = field(default_factory=lambda: secrets.randbits(62))


def identity_of(
    models: Iterable[Any], settings: RunnerSettings, databases: Iterable[str]
) -> Identity:
    """The identity of a runner of ``models`` in ``databases``.

    Without ``worker_id`` the id is ``<name>.<64 random bits>@<host>``, so that two processes differ
    also where every container has the same name and the same process id.
    """
    host = socket.gethostname()
    name = settings.worker_name or name_of(models)
    if settings.worker_id is None:
        own = f"{name}.{secrets.token_hex(8)}@{host[:LONGEST_HOST]}"
    else:
        own = settings.worker_id
    return Identity(own, name, host, os.getpid(), tuple(sorted(set(databases))))


def name_of(models: Iterable[Any]) -> str:
    """A name that is the same for all runners of the same models: their labels."""
    labels = sorted(model._meta.label_lower for model in models if not is_companion(model))
    name = "+".join(labels)
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{labels[0][:LONGEST_NAME]}+{len(labels) - 1}-{digest}"


def process_name() -> str:
    """The name of this process, ``host:pid``, for what is done without a runner."""
    return f"{socket.gethostname()}:{os.getpid()}"

"""The fleet: which workers there are, and what they are told."""

from __future__ import annotations

from django_fsmworker.models.worker import LOST, RunningRows, WorkerStatus
from django_fsmworker.workers.directory import all, databases_of, get, living, lost, purge, serving
from django_fsmworker.workers.workers import Workers

__all__ = [
    "LOST",
    "RunningRows",
    "WorkerStatus",
    "Workers",
    "all",
    "databases_of",
    "get",
    "living",
    "lost",
    "purge",
    "serving",
]

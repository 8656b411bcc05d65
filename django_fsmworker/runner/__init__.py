"""The runner, which claims due rows, runs their checks and writes their next states."""

from __future__ import annotations

from django_fsmworker.runner.execution.attempt_info import AttemptInfo
from django_fsmworker.runner.stator_runner import StatorRunner

__all__ = ["AttemptInfo", "StatorRunner"]

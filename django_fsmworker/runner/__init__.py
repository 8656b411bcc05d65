"""The process that moves rows."""

from __future__ import annotations

from django_fsmworker.runner.stator_runner import StatorRunner

__all__ = ["StatorRunner"]

"""Tools for testing models with a life: one thread, the caller's connection, any ``TestCase``.

Times are not waited for but travelled, and nothing here starts a runner.
"""

from __future__ import annotations

from django_fsmworker.testing.paths import assert_path
from django_fsmworker.testing.running import NotIdle, run_until_idle, step
from django_fsmworker.testing.travelling import travel

__all__ = ["NotIdle", "assert_path", "run_until_idle", "step", "travel"]

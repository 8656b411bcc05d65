"""Tools for testing models with a life: one thread, the caller's connection, any ``TestCase``.

Times are not waited for but travelled, and nothing here starts a runner.
"""

from __future__ import annotations

from django_fsmworker.testing.paths import assert_path
from django_fsmworker.testing.refusals import assert_refused
from django_fsmworker.testing.running import NotIdle, run_until_idle, step, travel

__all__ = ["NotIdle", "assert_path", "assert_refused", "run_until_idle", "step", "travel"]

"""How long a call of a check may take, for code below a runner that makes its work fit into it."""

from __future__ import annotations

from contextvars import ContextVar

DEADLINE: ContextVar[float] = ContextVar("django_fsmworker_deadline", default=15.0)
"""The seconds that a call may take whose state declares no deadline; each runner sets its own."""

"""Numbers that the models and what measures them have in common."""

from __future__ import annotations

IO_SECONDS = 0.1
TIMER_SECONDS = 0.2
STEPS = 3

"""Django signals, sent after the commit that they tell of.

``state_changed``: ``pk``, ``source``, ``target``, ``cause`` ("check", "guard", "timeout", "failure"
or "forced") and ``using``. ``check_failed``: ``pk``, ``source``, ``error`` (a sentence),
``failures`` and ``using``. ``row_expired``: ``pk``, ``source`` and ``using``. The sender is the
row's model.
"""

from __future__ import annotations

from django.dispatch import Signal

state_changed = Signal()
check_failed = Signal()
row_expired = Signal()

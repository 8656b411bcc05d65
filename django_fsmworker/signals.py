"""Django signals about rows with a life, sent after the commit that they report.

The sender is the model that declares the state, whichever proxy or multi-table child was moved.
A receiver is called in the process that moved the row; in a runner, on the thread that settles or
sweeps. A receiver that raises is logged by Django, and the row is not affected. A signal costs
nothing while it has no receivers.

All three signals pass ``pk``, the key of the row (a tuple if it is composite), ``source``, the name
of the state it was in, and ``using``, the alias of its database.
"""

from __future__ import annotations

from django.dispatch import Signal

state_changed = Signal()
"""A row was moved. Further arguments: ``target``, the name of the state it is in now, and
``cause``: ``"check"``, ``"guard"``, ``"timeout"`` (by ``timeout_to``), ``"lifetime"`` (by
``lifetime()``), ``"failure"`` (by ``fails_to``), ``"event"``, ``"move"`` (by ``state_move()``) or
``"forced"`` (by other code); ``by`` and ``reason``, as given to the event or by the code that moved
the row, otherwise None and ``""``; and ``trigger``, the name of the event, otherwise None.
"""

check_failed = Signal()
"""An attempt failed or overran its deadline. Further arguments: ``ending``, ``"failed"`` or
``"overran"``; ``error``, a sentence; ``failures``, the number of failures in a row, this one
included; ``exception``, what was raised, with its traceback, or None where nothing was: the check
overran its deadline, or its process died.
"""

row_expired = Signal()
"""A row was deleted because it had been in its state for ``delete_after``. No further arguments."""

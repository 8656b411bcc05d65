"""A command of ``manage.py``, ending also when the process that started it is gone.

That one holds the other end of standard input; when it ends, in whatever way, the pipe closes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from django.core.management import execute_from_command_line


def end_with_parent() -> None:
    """Ask this process to stop once standard input is closed."""
    # Not through sys.stdin, whose lock this thread would still hold when the interpreter ends.
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    execute_from_command_line(["manage.py", *sys.argv[1:]])

"""The site and its runners: processes of their own, which end with the one that started them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from django.conf import settings

STOP_SECONDS = 20.0


class Ended(Exception):
    """A process ended although nobody asked it to; the message says how."""


class Child:
    """``manage.py`` with these arguments; what it says goes to a file of the folder."""

    def __init__(self, name: str, arguments: list[str], folder: Path) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "testapp.child", *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=_environment(),
                # Ctrl-C is for the one that started it, which then stops it.
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises ``Ended`` if it is gone."""
        if self._process.poll() is not None:
            lines = self.log.read_text(errors="replace").strip().splitlines()
            raise Ended(
                f"The {self.name} ended with status {self._process.returncode}. "
                f"The last line of {self.log}: {lines[-1] if lines else '(it is empty)'}"
            )

    def terminate(self) -> None:
        """Ask it to stop."""
        self._process.terminate()

    def wait(self) -> None:
        """Wait until it has stopped; it is killed if that takes too long."""
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


@contextmanager
def running(commands: dict[str, list[str]], folder: Path) -> Iterator[list[Child]]:
    """The processes of these commands, by name; all are stopped in the end."""
    children: list[Child] = []
    with ExitStack() as stack:
        for name, arguments in commands.items():
            child = Child(name, arguments, folder)
            stack.callback(child.wait)
            children.append(child)
        try:
            yield children
        finally:
            for child in children:
                child.terminate()


def _environment() -> dict[str, str]:
    path = [str(settings.BASE_DIR), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        # Who looks at this will not wait for half a minute in the end.
        "FSMWORKER_DRAIN_TIMEOUT": "2",
        # Nor for a quarter of one until a worker has heard of an order.
        "FSMWORKER_HEARTBEAT_INTERVAL": "2",
        "DATA_DIR": str(settings.DATA_DIR),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONUNBUFFERED": "1",
    }

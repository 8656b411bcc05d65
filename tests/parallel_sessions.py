"""Sessions on several databases at once: each waits much, so two cores are busy with four.

Each is a ``python -m tests --database NAME`` of its own. What one prints is shown when it ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.sessions import Outcome, keep_bytecode

AT_ONCE = 2 * (os.cpu_count() or 2)
GRACE = 60


class Session:
    """One of them: its process, what it printed, and what came of it."""

    def __init__(self, vendor: str, arguments: Sequence[str], folder: Path) -> None:
        self.vendor = vendor
        own = Path(tempfile.mkdtemp(prefix=vendor, dir=folder))
        self._printed = own / "printed"
        self._outcome = own / "outcome.json"
        command = [sys.executable, "-m", "tests", "--database", vendor]
        command += ["--outcome", str(self._outcome), *arguments]
        environment = dict(os.environ)
        keep_bytecode(environment, folder / "bytecode")
        with self._printed.open("wb") as printed:
            self._process = subprocess.Popen(
                command, env=environment, stdout=printed, stderr=subprocess.STDOUT
            )

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def outcome(self) -> Outcome:
        """What it came to, after it has ended; its output is shown first."""
        print(self._printed.read_text(errors="replace"), end="", flush=True)
        if not self._outcome.exists():
            code = self._process.returncode
            return Outcome(failed=1, problem=f"the run ended early, with exit status {code}")
        return Outcome(**json.loads(self._outcome.read_text()))

    def stop(self) -> None:
        """End it, and let it stop its server."""
        if not self.has_ended:
            self._process.terminate()
            self._process.wait(GRACE)


def run_in_parallel(sessions: Sequence[tuple[str, Sequence[str]]]) -> dict[str, Outcome]:
    """Run these sessions, each a vendor and its arguments; what all of a vendor come to."""
    waiting, running = list(sessions), list[Session]()
    outcomes = {vendor: Outcome() for vendor, _ in sessions}
    with tempfile.TemporaryDirectory(prefix="fsmworker-sessions-") as folder:
        try:
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    vendor, arguments = waiting.pop(0)
                    print(" ".join(["started:", vendor, *arguments]), flush=True)
                    running.append(Session(vendor, arguments, Path(folder)))
                for each in [each for each in running if each.has_ended]:
                    running.remove(each)
                    outcomes[each.vendor] += each.outcome()
                time.sleep(0.2)
        finally:
            for each in running:
                each.stop()
    return outcomes

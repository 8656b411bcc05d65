"""Sessions on several databases at once: each mostly waits, so two cores are busy with three.

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

from tests.sessions import Outcome

AT_ONCE = max(3, os.cpu_count() or 1)
GRACE = 60


class Session:
    """One of them: its process, what it printed, and what came of it."""

    def __init__(self, vendor: str, arguments: Sequence[str], folder: Path) -> None:
        self.vendor = vendor
        self._printed = folder / f"{vendor}.log"
        self._outcome = folder / f"{vendor}.json"
        command = [sys.executable, "-m", "tests", "--database", vendor]
        command += ["--outcome", str(self._outcome), *arguments]
        with self._printed.open("wb") as printed:
            self._process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)

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


def run_in_parallel(sessions: dict[str, Sequence[str]]) -> dict[str, Outcome]:
    """Run a session for each vendor, with these arguments; so many at once as there are cores."""
    waiting, running, outcomes = dict(sessions), dict[str, Session](), dict[str, Outcome]()
    with tempfile.TemporaryDirectory(prefix="fsmworker-sessions-") as folder:
        try:
            while waiting or running:
                while waiting and len(running) < AT_ONCE:
                    vendor = next(iter(waiting))
                    print(f"started: {vendor}", flush=True)
                    running[vendor] = Session(vendor, waiting.pop(vendor), Path(folder))
                for vendor in [each for each in running if running[each].has_ended]:
                    outcomes[vendor] = running.pop(vendor).outcome()
                time.sleep(0.2)
        finally:
            for each in running.values():
                each.stop()
    return {vendor: outcomes[vendor] for vendor in sessions}

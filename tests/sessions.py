"""One pytest session on one database, in a process of its own, and what it counted."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.databases import URL_VARIABLES
from tests.paths import ROOT

NO_TESTS_COLLECTED = 5


@dataclass(frozen=True)
class Outcome:
    """How many tests passed, failed and were skipped; `problem` says why the count is not all."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    problem: str = ""

    def __add__(self, other: Outcome) -> Outcome:
        """Of two sessions that run a part of the tests each."""
        problems = [each.problem for each in (self, other) if each.problem]
        return Outcome(
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            "; ".join(dict.fromkeys(problems)),
        )

    def __str__(self) -> str:
        words = [f"{self.passed} passed"]
        words += [f"{self.failed} failed"] if self.failed else []
        words += [f"{self.skipped} skipped"] if self.skipped else []
        return ", ".join(words) + (f" ({self.problem})" if self.problem else "")


def run_session(vendor: str, url: str | None, arguments: Sequence[str]) -> Outcome:
    """Run pytest on `vendor`, whose server is at `url` if it has one."""
    environment = {**os.environ, "TEST_DATABASE": vendor}
    if url:
        environment[URL_VARIABLES[vendor]] = url
    with tempfile.TemporaryDirectory(prefix="fsmworker-pass-") as folder:
        # Everything the session leaves behind goes with the folder, also when it is killed.
        environment["TMPDIR"] = folder
        keep_bytecode(environment, Path(folder, "bytecode"))
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", f"--junit-xml={report}", *arguments]
        code = subprocess.run(command, cwd=ROOT, env=environment).returncode
        return _outcome(report, code)


def keep_bytecode(environment: dict[str, str], folder: Path) -> None:
    """Where none may be written beside the sources, let it be written to this folder.

    Without any, hundreds of processes compile whatever they import, which is a third of their time.
    """
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):
        environment.setdefault("PYTHONPYCACHEPREFIX", str(folder))


def _outcome(report: Path, code: int) -> Outcome:
    if not report.exists():
        return Outcome(failed=1, problem=f"pytest ended early, with exit status {code}")
    suites = list(ElementTree.parse(report).iter("testsuite"))
    tests, failures, errors, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites)
        for name in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    # A test that fails and then fails again in its teardown is counted twice by pytest.
    passed = max(tests - failed - skipped, 0)
    if code not in (0, NO_TESTS_COLLECTED) and not failed:
        return Outcome(passed, 1, skipped, f"pytest exit status {code}")
    return Outcome(passed, failed, skipped)

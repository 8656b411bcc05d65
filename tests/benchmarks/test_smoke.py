"""The benchmarks run: each case of ours at a tiny size, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.passes import ROOT


@pytest.mark.postgresql
@pytest.mark.timeout(600)
def test_every_case_can_be_measured() -> None:
    kept = {name: value for name, value in os.environ.items() if "DJANGO" not in name}

    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "smoke"],
        cwd=ROOT,
        env={**kept, "DATABASE_URL": os.environ["TEST_DATABASE_URL"]},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr + done.stdout
    assert "not once each" not in done.stdout
    assert "not measured" not in without_peers(done.stdout)


def without_peers(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if "peer" not in line)

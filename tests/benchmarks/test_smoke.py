"""The benchmarks run: each case of ours at a tiny size, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.paths import ROOT


@pytest.mark.postgresql
@pytest.mark.timeout(600)
def test_every_case_can_be_measured() -> None:
    kept = {name: value for name, value in os.environ.items() if "DJANGO" not in name}

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "smoke"],
        cwd=ROOT,
        env={**kept, "DATABASE_URL": os.environ["TEST_DATABASE_URL"]},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr + done.stdout
    assert "not once each" not in done.stdout
    assert "not measured" not in without_peers(done.stdout)


@pytest.mark.once
def test_what_a_row_costs_stage_by_stage() -> None:
    kept = {name: value for name, value in os.environ.items() if "DJANGO" not in name}

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.stages", "2"],
        cwd=ROOT,
        env={name: value for name, value in kept.items() if name != "DATABASE_URL"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr + done.stdout
    costs = [float(line.split()[0]) for line in done.stdout.splitlines()]
    assert len(costs) == 5
    assert min(costs) > 0


def without_peers(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if "peer" not in line)

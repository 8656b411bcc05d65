from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.runlog import VARIABLE, RunLog, noter
from tests.paths import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def test_what_is_noted_is_read_with_its_moment(folder: Path) -> None:
    log, before = RunLog(folder), time.monotonic()

    note = noter()
    note(7)
    note(5)

    (first, at), (second, later) = log.entries()
    assert (first, second) == (7, 5)
    assert before <= at <= later <= time.monotonic()


def test_it_is_counted_while_it_grows(folder: Path) -> None:
    log, note = RunLog(folder), noter()

    counts = [log.count()]
    for key in (1, 2):
        note(key)
        counts.append(log.count())

    assert counts == [0, 1, 2]


def test_two_logs_of_one_process_are_both_read(folder: Path) -> None:
    log = RunLog(folder)

    noter()(1)
    noter()(2)

    assert sorted(key for key, _ in log.entries()) == [1, 2]


def test_threads_lose_nothing(folder: Path) -> None:
    note, number = noter(), 2_000

    def work(start: int) -> None:
        for key in range(start, start + number):
            note(key)

    threads = [threading.Thread(target=work, args=(1 + number * each,)) for each in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(key for key, _ in RunLog(folder).entries()) == list(range(1, 4 * number + 1))


def test_it_outlives_a_process_that_is_killed(folder: Path) -> None:
    code = "import os, signal; from benchmarks.runlog import noter; noter()(3);"
    done = subprocess.run(
        [sys.executable, "-c", f"{code} os.kill(os.getpid(), signal.SIGKILL)"],
        cwd=ROOT,
        env={**os.environ, VARIABLE: str(folder)},
    )

    assert done.returncode == -9
    assert [key for key, _ in RunLog(folder).entries()] == [3]

"""The way of a row through the package stays short enough to be read in one go."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.app.models import Noop
from tests.documentation import read
from tests.runner.processes import Process

pytestmark = pytest.mark.django_db(transaction=True)

StartProcess = Callable[..., Process]


@pytest.mark.postgresql
def test_a_due_row_from_its_claim_to_its_settling(start_process: StartProcess) -> None:
    files = files_passed(start_process, "from_claim_to_settling")

    assert "store/postgresql/store.py" in files
    # One of them knows what is paused, and one counts paces; without limits nothing asks for any.
    assert "runner/claiming/limiter.py" not in files
    assert len(files) <= 27, ", ".join(files)
    assert f"A due row passes {len(files)} files" in read("explanation/architecture.md")


@pytest.mark.once
def test_a_state_that_is_assigned_and_saved(start_process: StartProcess) -> None:
    files = files_passed(start_process, "assigned_and_saved")

    assert "models/stator_model.py" in files
    assert len(files) <= 12, ", ".join(files)


def files_passed(start_process: StartProcess, work: str) -> list[str]:
    """The package's files that this function of ``files_passed`` passes."""
    call = f"from tests.runner.files_passed import {work} as work; work()"
    process = start_process("shell", "--no-imports", "-c", call)
    assert process.wait(100) == 0, process.stderr
    assert not Noop.objects.exclude(state="done").exists()
    return process.stdout.strip().splitlines()[-1].split()

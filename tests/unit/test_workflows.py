"""What is left out of the usual runs is run by somebody."""

from __future__ import annotations

import pytest

from tests.databases import VENDORS
from tests.paths import ROOT

WORKFLOW = ROOT / ".github/workflows/long.yml"


@pytest.mark.parametrize("vendor", VENDORS)
def test_long_tests_run_each_week_on_every_database(vendor: str) -> None:
    text = WORKFLOW.read_text()

    databases = text.partition("database: [")[2].partition("]")[0].split(", ")
    assert vendor in databases
    assert "cron: " in text
    assert "- run: python -m tests --database ${{ matrix.database }} --long\n" in text

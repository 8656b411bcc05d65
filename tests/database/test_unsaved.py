"""In DEBUG a check that leaves changed fields unsaved gets a warning that names them."""

from __future__ import annotations

import logging

import pytest

from testapp.models import Trouble
from testapp.models import trouble as trouble_models

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(settings, monkeypatch, caplog):
    """``run(check)``: run ``check`` on a new row in DEBUG; the warnings it got."""
    settings.DEBUG = True

    def run_check(check):
        monkeypatch.setitem(trouble_models.MODES, "given", lambda states, row: check(row))
        row = Trouble.objects.create(mode="given")
        with caplog.at_level(logging.WARNING, logger="django_fsmworker"):
            row.state_transition_check()
        return row, [record.getMessage() for record in caplog.records]

    return run_check


def change_two(row):
    row.value = 5
    row.mode = "stay"


def change_and_save(row):
    change_two(row)
    row.save()


def change_and_save_one(row):
    change_two(row)
    row.save(update_fields=["value"])


def save_and_change(row):
    row.save()
    row.value = 5


def change_back(row):
    row.value, value = 5, row.value
    row.value = value


def delete(row):
    row.value = 5
    row.delete()


def test_names_the_fields(run):
    row, warnings = run(change_two)

    assert warnings == [
        f"TroubleStates.check_new left mode, value of testapp.Trouble {row.pk} unsaved; call "
        f"save() before the check returns."
    ]


@pytest.mark.parametrize("check", [change_and_save, change_back, delete])
def test_silence(run, check):
    _, warnings = run(check)

    assert warnings == []


@pytest.mark.parametrize(
    ("check", "name"), [(change_and_save_one, "mode"), (save_and_change, "value")]
)
def test_what_is_saved_is_left_out(run, check, name):
    _, warnings = run(check)

    assert [f" left {name} of " in each for each in warnings] == [True]


def test_nothing_is_compared_without_debug(run, settings):
    settings.DEBUG = False

    _, warnings = run(change_two)

    assert warnings == []

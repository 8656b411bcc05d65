"""In DEBUG a check that leaves changed fields unsaved gets a warning that names them."""

from __future__ import annotations

import logging

import pytest

from django_fsmworker.models.unsaved import Snapshot, fields, watch
from tests.app.models import Trouble
from tests.app.models import trouble as trouble_models

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


def test_the_warning_names_the_fields(run):
    row, warnings = run(change_two)

    assert warnings == [
        f"TroubleStates.check_new left mode, value of tests.Trouble {row.pk} unsaved; call "
        f"save() before the check returns."
    ]


@pytest.mark.parametrize("check", [change_and_save, change_back, delete])
def test_what_leaves_no_field_unsaved_is_not_warned_of(run, check):
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


class Elementwise:
    """Like an array: what ``==`` answers is neither true nor false."""

    def __init__(self, *values):
        self.values = list(values)

    def __eq__(self, other):
        return Answers()

    __hash__ = None  # type: ignore[assignment]


class Answers:
    def __bool__(self):
        raise ValueError("The truth value of an array is ambiguous.")


class Unpicklable(Elementwise):
    def __reduce_ex__(self, protocol):
        raise TypeError("cannot pickle it")


class TestSnapshots:
    @pytest.mark.parametrize(
        "value", [[1, 2], {"a": [1]}, Elementwise(1), Unpicklable(1), float("nan"), None, {3, 4}]
    )
    def test_what_is_left_alone_is_the_same(self, value):
        assert Snapshot(value).is_of(value)

    @pytest.mark.parametrize(
        ("value", "change"),
        [
            ([1, 2], lambda value: value.append(3)),
            ({"a": [1]}, lambda value: value["a"].append(3)),
            (Elementwise(1), lambda value: value.values.append(3)),
            (bytearray(b"a"), lambda value: value.extend(b"b")),
        ],
    )
    def test_what_is_changed_in_place_is_another(self, value, change):
        snapshot = Snapshot(value)

        change(value)

        assert not snapshot.is_of(value)

    @pytest.mark.parametrize(
        ("value", "other"),
        [(1, 2), ([1], [2]), (None, []), (Elementwise(1), Elementwise(2)), ("a", b"a")],
    )
    def test_another_value_is_another(self, value, other):
        assert not Snapshot(value).is_of(other)

    @pytest.mark.parametrize(("value", "other"), [([1], [1]), ({"a": 1, "b": 2}, {"b": 2, "a": 1})])
    def test_an_equal_one_is_the_same(self, value, other):
        assert Snapshot(value).is_of(other)


@pytest.mark.parametrize("value", [Elementwise(1), Unpicklable(1)])
def test_a_value_that_cannot_be_compared_does_not_fail_the_row(run, monkeypatch, value):
    def put(row):
        row.__dict__["value"] = value

    row, warnings = run(put)

    assert (row.state, row.state_failures) == ("new", 0)
    assert [" left value of " in each for each in warnings] == [True]


def test_a_value_changed_in_place_is_warned_of(settings, caplog):
    settings.DEBUG = True
    row = Trouble.objects.create()
    row.__dict__["mode"] = ["a"]
    watch(row)
    row.__dict__["mode"].append("b")

    assert fields(row) == ["mode"]

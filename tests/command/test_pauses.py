"""``manage.py stator pause``, ``resume`` and ``pauses``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.management.base import CommandError

from django_fsmworker.pauses import paused
from tests.command.conftest import Ended

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

Stator = Callable[..., Ended]


def test_a_model_is_paused_listed_and_resumed(stator: Stator) -> None:
    words = ("--by", "ada", "--reason", "the carrier moves house")
    assert stator("pause", "tests.parcel", *words).lines == ["tests.Parcel is paused."]

    assert stator("pauses").lines == [
        "tests.Parcel (by hand) by ada: the carrier moves house",
    ]
    assert stator("resume", "tests.Parcel").lines == ["1 pause lifted."]
    assert stator("pauses").lines == ["Nothing is paused."]


def test_a_state_is_paused_for_a_time(stator: Stator) -> None:
    stator("pause", "tests.Parcel", "--state", "plain", "--for", "60", "--reason", "rest")

    (found,) = paused("default")
    assert (found.model, found.state, found.key) == ("tests.Parcel", "plain", "")
    assert found.until is not None


@pytest.mark.parametrize(("text", "key"), [("7", "7"), ("NULL", "NULL")])
def test_a_key_is_paused(stator: Stator, text: str, key: str) -> None:
    given = ("--state", "keyed", "--key", text, "--reason", "429")
    ended = stator("pause", "tests.Parcel", *given, "--json")

    assert (ended.data[0]["state"], ended.data[0]["key"]) == ("keyed", key)
    assert stator("resume", "tests.Parcel", "--state", "keyed", "--key", text, "--json").data == {
        "lifted": 1
    }


def test_everything_is_paused_also_in_one_database(stator: Stator) -> None:
    assert stator("pause", "--all", "--reason", "a move").lines == ["* is paused."]
    stator("pause", "--all", "--reason", "another", "--database", "other")

    assert stator("resume", "--all").lines == ["1 pause lifted."]
    assert [each.reason for each in paused("other")] == ["another"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "Name a model, or give --all for every one."),
        (("tests.Parcel", "--all"), "Name a model, or give --all for every one."),
        (("tests.Parcel", "--state", "plain", "--key", "7"), "The state plain of tests.Parcel has"),
        (("tests.Parcel", "--state", "nirvana"), "'nirvana' is not a state of ParcelStates"),
        (("tests.Parcel", "--state", "keyed", "--key", "x"), "--key: “x” value must be an integer"),
    ],
)
def test_what_is_wrong_is_said(stator: Stator, arguments: tuple[str, ...], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        stator("pause", *arguments, "--reason", "why")

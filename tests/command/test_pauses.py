"""``manage.py stator pause``, ``resume`` and ``pauses``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.management.base import CommandError

from django_fsmworker.management.stator_commands.subcommand import login
from django_fsmworker.pauses import paused
from tests.command.conftest import Ended
from tests.workers_on_record import on_record

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
    assert stator("pause", "--all", "--reason", "a move").lines == ["Everything is paused."]
    stator("pause", "--all", "--reason", "another", "--database", "other")

    assert stator("resume", "--all").lines == ["1 pause lifted."]
    assert [each.reason for each in paused("other")] == ["another"]


def test_a_model_is_paused_wherever_it_is_run(stator: Stator) -> None:
    on_record("one", options={"databases": ["default", "other"]})
    on_record("one", options={"databases": ["default", "other"]}, using="other")

    assert stator("pause", "tests.Noop", "--reason", "a flood").lines == [
        "tests.Noop is paused in default.",
        "tests.Noop is paused in other.",
    ]
    assert stator("pauses").lines == [
        f"tests.Noop (by hand) in default by {login()}: a flood",
        f"tests.Noop (by hand) in other by {login()}: a flood",
    ]
    assert [each["database"] for each in stator("pauses", "--json").data] == ["default", "other"]
    assert stator("resume", "tests.Noop", "--database", "default,other").lines == [
        "2 pauses lifted."
    ]


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_a_database_that_is_none(command: str, stator: Stator) -> None:
    reason = ["--reason", "why"] if command == "pause" else []

    with pytest.raises(CommandError, match="^There is no database 'archive'; DATABASES has"):
        stator(command, "--all", "--database", "default,archive", *reason)
    with pytest.raises(CommandError, match="^There is no database 'archive'; DATABASES has"):
        stator("pauses", "--database", "archive")


@pytest.mark.parametrize("reason", ["", " \t"])
def test_a_pause_has_a_reason(stator: Stator, reason: str) -> None:
    with pytest.raises(CommandError, match="argument --reason: it is empty; say why"):
        stator("pause", "--all", "--reason", reason)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "Name a model, or give --all for every one."),
        (("tests.Parcel", "--all"), "Name a model, or give --all for every one."),
        (("tests.Parcel", "--state", "plain", "--key", "7"), "The state plain of tests.Parcel has"),
        (("tests.Parcel", "--for", "0"), "A pause of 0 seconds is over at once; give --for more"),
        (("tests.Parcel", "--for", "nan"), "argument --for: 'nan' is not a number of seconds"),
        (("tests.Parcel", "--state", "nirvana"), "'nirvana' is not a state of ParcelStates"),
        (("tests.Parcel", "--state", "keyed", "--key", "x"), "--key: “x” value must be an integer"),
    ],
)
def test_what_is_wrong_is_said(stator: Stator, arguments: tuple[str, ...], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        stator("pause", *arguments, "--reason", "why")

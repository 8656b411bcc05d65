"""``manage.py stator`` where one of several databases is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from tests.app.models import Noop
from tests.command.conftest import Ended
from tests.servers import free_port
from tests.workers_on_record import on_record

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

Stator = Callable[..., Ended]


@pytest.fixture(autouse=True)
def other_is_away(
    transactional_db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Nobody can reach the second database, until the test has ended."""
    where = {"HOST": "127.0.0.1", "PORT": str(free_port())}
    if connections["other"].vendor == "sqlite":
        where = {"NAME": str(tmp_path / "no" / "file")}
    connections["other"].close()
    with monkeypatch.context() as change:
        for name, value in where.items():
            change.setitem(connections.settings["other"], name, value)
        yield
        connections["other"].close()


@pytest.fixture
def routed(settings: Any) -> None:
    """``RoutedKind`` is in that database."""
    settings.DATABASE_ROUTERS = ["tests.routers.ByModel"]


def test_the_others_are_shown(stator: Stator) -> None:
    Noop.objects.create()

    ended = stator("status", "tests.Noop", "--database", "default,other", "--json")

    assert ended.code == 1
    assert [each["rows"]["number"] for each in ended.data] == [1]
    assert ended.errors.startswith("The database 'other' is away (")
    assert ended.errors.endswith("); what is in it is left out.\n")
    assert ended.errors.count("\n") == 1


def test_one_that_only_a_worker_knows(stator: Stator) -> None:
    Noop.objects.create()
    on_record("one", options={"databases": ["default", "other"]})

    ended = stator("status", "tests.Noop")

    assert (ended.code, len(ended.lines)) == (1, 2)
    assert "'other' is away" in ended.errors


def test_no_other(stator: Stator) -> None:
    with pytest.raises(CommandError, match=r"^The database 'other' is away \(.*\); start it\.$"):
        stator("status", "--database", "other")


@pytest.mark.once
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("status",), "tests.Noop"),
        (("plan",), "tests.Noop (default): nothing to do."),
        (("doctor",), ""),
        (("purge", "--dry-run"), "stator logs"),
        (("workers", "list"), "one  ready"),
        (("workers", "stats"), "shop: ready=1"),
        (("workers", "health"), "No worker runs tests.Trouble."),
        (("workers", "show", "one"), "state: ready"),
        (("workers", "suspend", "--all"), "The worker one is told to suspend."),
        (("workers", "purge"), "0 records purged."),
        (("pause", "--all", "--reason", "a flood"), "Everything is paused."),
        (("pauses",), "Nothing is paused."),
        (("resume", "--all"), "0 pauses lifted."),
    ],
)
def test_every_command_that_asks_several(
    words: tuple[str, ...], says: str, routed: None, stator: Stator
) -> None:
    Noop.objects.create()
    on_record("one")

    ended = stator(*words)

    assert ended.code == 1
    assert "'other' is away" in ended.errors
    assert says in ended.output
    assert "tests.RoutedKind" not in ended.output


@pytest.mark.once
def test_it_is_told_of_after_an_error_too(routed: None, stator: Stator) -> None:
    errors = StringIO()

    with pytest.raises(CommandError, match="^There is no record of a worker 'one'"):
        call_command("stator", "workers", "show", "one", stdout=StringIO(), stderr=errors)

    assert "'other' is away" in errors.getvalue()

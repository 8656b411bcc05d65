"""``manage.py stator``: rows that are explained, retried, parked, unparked, moved, cancelled."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db import DataError, connection

from django_fsmworker import clock
from tests.app.models import CompositeKind, RoutedKind, Trouble
from tests.command.conftest import Ended
from tests.database.rows import FUTURE, claim, fetch, put

pytestmark = [pytest.mark.once, pytest.mark.django_db(databases=["default", "other"])]

Stator = Callable[..., Ended]


def failing(**columns: Any) -> Any:
    row = Trouble.objects.create(**columns)
    put(row, state_failures=1, state_next=FUTURE)
    return fetch(row)


def due() -> set[Any]:
    return set(Trouble.objects.due().values_list("pk", flat=True))


class TestExplain:
    def test_lines(self, stator: Stator) -> None:
        row = Trouble.objects.create(state="done")

        assert stator("explain", "tests.trouble", row.pk).lines == [
            f"tests.Trouble {row.pk} is in the state done.",
            "- The state done is terminal: no way leads out of it.",
            "  Only code can move it, with state_transition().",
        ]

    def test_json(self, stator: Stator) -> None:
        row = Trouble.objects.create()

        found = stator("explain", "tests.Trouble", row.pk, "--json").data

        assert (found["pk"], found["reasons"][0]["code"]) == (row.pk, "due")

    def test_a_reason_forges_no_line(self, stator: Stator) -> None:
        row = Trouble.objects.create()
        row.state_park("rest\n- It is due.")

        assert "rest\\n- It is due." in stator("explain", "tests.Trouble", row.pk).lines[1]

    def test_a_composite_key(self, stator: Stator) -> None:
        CompositeKind.objects.create(pk=(1, "a"))

        found = stator("explain", "tests.CompositeKind", '[1, "a"]', "--json").data

        assert found["pk"] == [1, "a"]

    def test_in_another_database(self, stator: Stator) -> None:
        row = RoutedKind(wish="done")
        row.save(using="other")

        found = stator("explain", "tests.RoutedKind", row.pk, "--database", "other", "--json").data

        assert found["claimable"] is True

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["tests.Trouble", "1"], "There is no tests.Trouble with the key 1."),
            (["tests.Trouble", "x"], "'x' is not a key of tests.Trouble; write one of several .*"),
            (["tests.Nobody", "1"], "'tests.Nobody' is not a model with a state graph; .*"),
            (
                ["tests.Trouble", "1", "--database", "nowhere"],
                "There is no database 'nowhere'; DATABASES has default, other.*",
            ),
        ],
    )
    def test_what_is_not_there(self, arguments: list[str], message: str, stator: Stator) -> None:
        with pytest.raises(CommandError, match=message):
            stator("explain", *arguments)


class TestVerbs:
    def test_retry(self, stator: Stator) -> None:
        rows = [failing(), failing(), failing()]

        ended = stator("retry", "tests.Trouble", rows[0].pk, rows[2].pk, "--reason", "mended")

        assert ended == Ended(0, "2 rows retried.\n")
        assert due() == {rows[0].pk, rows[2].pk}

    def test_park_takes_a_reason(self, stator: Stator) -> None:
        with pytest.raises(CommandError, match="argument --reason: it is empty; say why"):
            stator("park", "tests.Trouble", "--all", "--reason", " ")

    def test_park_and_unpark(self, stator: Stator) -> None:
        row = Trouble.objects.create()

        ended = stator("park", "tests.Trouble", row.pk, "--by", "ann", "--reason", "look at it")

        assert ended.output == "1 row parked.\n"
        assert row.failure is not None
        assert (row.failure.parked_by, row.failure.parked_reason) == ("ann", "look at it")
        assert stator("unpark", "tests.Trouble", "--only", "parked").output == "1 row unparked.\n"
        assert due() == {row.pk}

    def test_cancel(self, stator: Stator) -> None:
        Trouble.objects.create()
        (row,) = claim(Trouble)

        ended = stator("cancel", "tests.Trouble", "--only", "running", "--retry-in", "90", "--json")

        assert ended.data == {"rows": 1, "refused": {}, "missing": []}
        assert fetch(row).state_claim == -1 - row.state_claim
        assert fetch(row).state_next > clock.now() + timedelta(seconds=60)

    @pytest.mark.parametrize("option", ["--by=ann", "--dry-run"])
    def test_a_key_that_no_row_has_is_said(self, stator: Stator, option: str) -> None:
        row = failing()

        ended = stator("retry", "tests.Trouble", row.pk, "4711", option)

        assert (ended.code, len(ended.lines)) == (3, 2)
        assert ended.lines[1] == "There is no tests.Trouble with the key 4711."
        moved = stator("move", "tests.Trouble", "4711", "--to", "done", "--json", option)
        assert (moved.code, moved.data["missing"]) == (3, ["4711"])

    @pytest.mark.parametrize(
        ("verb", "why"),
        [
            ("retry", "is left as it is. It is due already."),
            ("unpark", "is left as it is. It is not parked."),
            ("cancel", "is left as it is. No check runs on it."),
        ],
    )
    @pytest.mark.parametrize("option", ["--by=ann", "--dry-run"])
    def test_a_named_row_that_is_left_as_it_is(
        self, stator: Stator, verb: str, why: str, option: str
    ) -> None:
        row = Trouble.objects.create()

        ended = stator(verb, "tests.Trouble", row.pk, option)

        assert ended.code == 3
        assert ended.lines[1] == f"tests.Trouble {row.pk} {why}"
        assert fetch(row).state_next == row.state_next

    def test_a_named_row_that_a_runner_holds(self, stator: Stator) -> None:
        Trouble.objects.create()
        (row,) = claim(Trouble)

        ended = stator("retry", "tests.Trouble", row.pk)

        assert ended.lines[1] == f"tests.Trouble {row.pk} is left as it is. A runner holds it."

    def test_a_named_row_whose_state_refuses_it(self, stator: Stator) -> None:
        row = Trouble.objects.create(state="done")

        ended = stator("park", "tests.Trouble", row.pk, "--reason=look", "--json")

        assert (ended.code, ended.data["rows"]) == (3, 0)
        assert "cannot be parked in the state done: " in ended.data["refused"][str(row.pk)]

    def test_a_dry_run(self, stator: Stator) -> None:
        row = failing()

        ended = stator("retry", "tests.Trouble", "--all", "--dry-run")

        assert ended.output == "1 row would be retried.\n"
        assert due() == set()
        assert fetch(row).state_failures == 1


class TestMove:
    def test_by_a_declared_transition(self, stator: Stator) -> None:
        row, other = Trouble.objects.create(), Trouble.objects.create(state="waiting")

        ended = stator("move", "tests.Trouble", "--all", "--to", "patient")

        assert ended.code == 3
        assert ended.lines == [
            "1 row moved to patient.",
            f"tests.Trouble {other.pk} cannot go from waiting to patient; this move is allowed "
            f"from: new.",
        ]
        assert fetch(row).state == "patient"

    def test_by_force(self, stator: Stator) -> None:
        row = Trouble.objects.create(state="done")

        ended = stator("move", "tests.Trouble", row.pk, "--to", "new", "--force", "--json")

        assert (ended.code, ended.data) == (0, {"rows": 1, "refused": {}, "missing": []})
        assert fetch(row).state == "new"

    def test_a_dry_run(self, stator: Stator) -> None:
        row = Trouble.objects.create()

        ended = stator("move", "tests.Trouble", row.pk, "--to", "patient", "--dry-run")

        assert ended.output == "1 row would be asked to move to patient.\n"
        assert fetch(row).state == "new"

    def test_to_an_unknown_state(self, stator: Stator) -> None:
        with pytest.raises(CommandError, match="'nirvana' is not a state of TroubleStates"):
            stator("move", "tests.Trouble", "--all", "--to", "nirvana")


class TestSelection:
    def test_by_columns(self, stator: Stator) -> None:
        row = failing(mode="slow")
        failing(mode="raise")

        stator("retry", "tests.Trouble", "--filter", "mode=slow", "--filter", "state=new")

        assert due() == {row.pk}

    @pytest.mark.parametrize(
        ("given", "number"),
        [
            ("mode__in=slow,raise", 2),
            ("state_failures__range=1,1", 2),
            ("state_lease__isnull=true", 2),
            ("state_lease__isnull=False", 0),
        ],
    )
    def test_by_lookups_that_take_no_text(self, given: str, number: int, stator: Stator) -> None:
        failing(mode="slow")
        failing(mode="raise")

        ended = stator("retry", "tests.Trouble", "--filter", given, "--dry-run", "--json")

        assert ended.data["rows"] == number

    def test_no_more_than(self, stator: Stator) -> None:
        first, _ = failing(), failing()

        ended = stator("retry", "tests.Trouble", "--only", "failing", "--limit", "1")

        assert ended.output == "1 row retried.\n"
        assert due() == {first.pk}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "Name rows: by their primary keys, --filter, --only or --all."),
            (["--filter", "mode"], "'mode' is not a filter; write FIELD=VALUE."),
            (["--filter", "moon=1"], "'moon=1' is not a filter of these rows: Cannot resolve .*"),
            (["--filter", "value=x"], "'value=x' is not a filter of these rows: .*"),
            (["--filter", "id__isnull=no"], "'id__isnull=no' is not a filter of these rows: .*"),
            (
                ["--filter", "mode=\udcff"],
                r"'mode=\\udcff' is no text in this terminal's encoding.",
            ),
            (["9" * 30], "'9{30}' is not a key of tests.Trouble; .*"),
            (["--all", "--limit", "-1"], ".*'-1' is not a whole number above 0"),
            (["--all", "--limit", "9" * 30], ".*'9{30}' is not a whole number above 0"),
        ],
    )
    def test_what_is_no_selection(self, arguments: list[str], message: str, stator: Stator) -> None:
        with pytest.raises(CommandError, match=message):
            stator("retry", "tests.Trouble", *arguments)


def test_an_interruption_is_said(stator: Stator, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("django_fsmworker.management.stator_commands.rows.operate", interrupt)

    ended = stator("retry", "tests.Trouble", "--all")

    assert (ended.code, ended.output) == (130, "")
    assert ended.errors == (
        "Interrupted: a part of it may be done; it is safe to give the command again.\n"
    )


def test_a_graph(stator: Stator) -> None:
    lines = stator("graph", "tests.Trouble").lines

    assert lines[:2] == ["TroubleStates", ""]
    assert stator("graph", "tests.Trouble", "--json").data["name"] == "TroubleStates"
    assert stator("graph", "tests.Trouble", "--format", "dot").output.startswith("digraph")
    assert stator("graph", "tests.Trouble", "--format", "svg").output.startswith("<svg xmlns=")


def test_a_drawing_without_its_package(stator: Stator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fast_sugiyama", None)

    with pytest.raises(CommandError, match=r"install django-fsmworker\[diagrams\]"):
        stator("graph", "tests.Trouble", "--format", "svg")


def test_what_the_database_cannot_read(stator: Stator, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(row: Any) -> None:
        raise DataError("value out of range\nLINE 1: …")

    row = Trouble.objects.create()
    monkeypatch.setattr(Trouble, "state_explain", refuse)

    with pytest.raises(CommandError) as raised:
        stator("explain", "tests.Trouble", row.pk)

    assert str(raised.value) == "The database cannot make sense of that: value out of range."


@pytest.mark.postgresql
def test_somebody_holds_a_lock(stator: Stator, monkeypatch: pytest.MonkeyPatch) -> None:
    def lock(row: Any, using: Any = connection) -> None:
        with using.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = 1")
            cursor.execute("SELECT pg_advisory_lock(1)")

    row = Trouble.objects.create()
    monkeypatch.setattr(Trouble, "state_explain", lock)

    with closing(connection.copy()) as other, pytest.raises(CommandError) as raised:
        lock(row, other)
        stator("explain", "tests.Trouble", row.pk)

    assert str(raised.value) == (
        "Somebody else's transaction is in the way (canceling statement due to lock timeout); end "
        "it, or give the command again when it is over."
    )

"""``manage.py stator plan``: this code's graphs and the rows that are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db import connection, migrations
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import MigrationWriter

from django_fsmworker.diagnosis import plan
from django_fsmworker.diagnosis.plan import guess_renames, migrated_states, plan_of
from django_fsmworker.operations import RenameStates
from tests.app.models import Noop, Trouble
from tests.command.conftest import Ended
from tests.database.rows import fetch, put

pytestmark = pytest.mark.django_db(databases=["default", "other"])

Stator = Callable[..., Ended]


def in_state(state: str, **columns: Any) -> Any:
    row = Noop.objects.create()
    put(row, state=state, **columns)
    return row


@pytest.fixture
def migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The applied migrations know ``fresh`` in place of ``new``."""
    monkeypatch.setattr(plan, "migrated_states", lambda model, using: ["fresh", "done"])


class TestPlan:
    def test_there_is_nothing_to_do(self, stator: Stator) -> None:
        Noop.objects.create()

        ended = stator("plan", "tests.Noop")

        assert ended == Ended(0, "tests.Noop (default): nothing to do.\n")

    @pytest.mark.postgresql
    def test_a_table_that_is_not_there_yet(self, stator: Stator) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {Noop._meta.db_table} RENAME TO other")

        ended = stator("plan", "tests.Noop", "tests.Trouble")

        assert ended.code == 0
        assert ended.lines[1].startswith(
            "  none of its rows has a state yet: the table of tests.Noop in the database 'default'"
        )
        assert ended.lines[2:] == ["tests.Trouble (default): nothing to do."]

    def test_a_state_that_is_gone(self, stator: Stator, migrated: None) -> None:
        in_state("fresh")
        in_state("fresh")

        ended = stator("plan", "tests.Noop")

        assert ended == Ended(
            3,
            "tests.Noop (default)\n"
            "  2 rows are in the state fresh, which the graph does not declare; was it renamed to "
            "new?\n"
            "  the state new is new\n",
        )

    def test_a_state_that_is_gone_and_has_no_rows(self, stator: Stator, migrated: None) -> None:
        ended = stator("plan", "tests.Noop")

        assert (ended.code, ended.lines[1]) == (0, "  the state fresh is gone, and no row is in it")

    def test_stranded_rows(self, stator: Stator) -> None:
        in_state("new", state_next=None)

        ended = stator("plan", "tests.Noop")

        assert (ended.code, ended.lines[1]) == (
            0,
            "  1 row in new has nothing due; a runner makes it due at its start",
        )

    def test_json(self, stator: Stator) -> None:
        in_state("old")

        assert stator("plan", "tests.Noop", "--json").data == [
            {
                "model": "tests.Noop",
                "database": "default",
                "unknown": {"old": 1},
                "stranded": {},
                "new": [],
                "gone": [],
                "renamed": {},
                "mismatch": "",
            }
        ]


def test_what_the_applied_migrations_know() -> None:
    assert migrated_states(Trouble, "default") == list(Trouble.state_graph.states)
    assert plan_of(Trouble, "default").changes is False


@pytest.mark.parametrize(
    ("old", "new", "renamed"),
    [
        (["dispatched"], ["shipped"], {"dispatched": "shipped"}),
        (["paid_out", "x"], ["paid", "y"], {"paid_out": "paid", "x": "y"}),
        (["a", "b"], ["c"], {}),
        (
            ["sending", "sended"],
            ["sent", "sending_out"],
            {"sending": "sending_out", "sended": "sent"},
        ),
        ([], ["new"], {}),
    ],
)
def test_guesses(old: list[str], new: list[str], renamed: dict[str, str]) -> None:
    assert guess_renames(old, new) == renamed


class TestMigration:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Where migrations of the tests' app are written to."""
        monkeypatch.setattr(MigrationWriter, "basedir", str(tmp_path))
        return tmp_path

    def test_is_written(self, stator: Stator, migrated: None, folder: Path) -> None:
        row = in_state("fresh")

        ended = stator("plan", "tests.Noop", "--write-migration")

        path = folder / "0002_noop_states_renamed.py"
        assert ended.lines[-1] == f"Written: {path}"
        scope: dict[str, Any] = {}
        exec(path.read_text(), scope)
        written = scope["Migration"]
        assert written.dependencies == [("tests", "0001_initial")]
        (operation,) = written.operations
        assert operation.deconstruct() == RenameStates("noop", {"fresh": "new"}).deconstruct()
        apply(operation)
        assert fetch(row).state == "new"

    def test_the_new_name_is_given(self, stator: Stator, folder: Path) -> None:
        in_state("old")

        stator("plan", "tests.Noop", "--rename", "old=done", "--write-migration")

        assert "'old': 'done'" in (folder / "0002_noop_states_renamed.py").read_text()

    @pytest.mark.django_db(databases=["default", "other"])
    def test_is_one_for_all_databases(self, stator: Stator, migrated: None, folder: Path) -> None:
        in_state("fresh")
        row = Noop.objects.using("other").create()
        put(row, "other", state="old")

        stator(
            "plan", "tests.Noop", "--database=default,other", "--write-migration",
            "--rename=old=done",
        )  # fmt: skip

        (path,) = folder.iterdir()
        assert "{'fresh': 'new', 'old': 'done'}" in path.read_text()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                [],
                "It is not known what the state old of tests.Noop is called now; say it with ",
            ),
            (
                ["--rename", "old=moon"],
                "It is not known what the state old of tests.Noop is called",
            ),
            (["--rename", "old"], "'old' is not a renaming; write OLD=NEW."),
            (
                ["--rename", "olf=done"],
                "--rename olf=done: no row is in an undeclared state olf; rows are in old.",
            ),
        ],
    )
    def test_the_new_name_is_not_known(
        self, arguments: list[str], message: str, stator: Stator, folder: Path
    ) -> None:
        in_state("old")

        with pytest.raises(CommandError, match=message):
            stator("plan", "tests.Noop", "--write-migration", *arguments)

        assert list(folder.iterdir()) == []


def apply(operation: migrations.operations.base.Operation, *, backwards: bool = False) -> None:
    state = ProjectState()
    state.add_model(ModelState.from_model(Noop))
    run = operation.database_backwards if backwards else operation.database_forwards
    run("tests", connection.schema_editor(), state, state)


class TestRenameStates:
    def test_rows_get_the_new_name_and_the_old_one_again(self) -> None:
        row = in_state("fresh", state_failures=2)
        before = fetch(row)
        operation = RenameStates("Noop", {"fresh": "new"})

        apply(operation)

        found = fetch(row)
        assert (found.state, found.state_next, found.state_failures) == (
            "new",
            before.state_next,
            2,
        )
        apply(operation, backwards=True)
        assert fetch(row).state == "fresh"

    def test_what_it_says_of_itself(self) -> None:
        operation = RenameStates("Noop", {"fresh": "new"})

        assert operation.describe() == "Rename states in the rows of Noop: fresh to new"
        assert operation.migration_name_fragment == "noop_states_renamed"

    def test_names_that_are_old_and_new(self) -> None:
        with pytest.raises(ValueError, match="a is an old name and a new one; use two operations"):
            RenameStates("Noop", {"a": "b", "c": "a"})

"""Expiry goes through a model's own delete(): trees stay whole, and soft deletion stays soft."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runner.embedded import one_pass
from tests.runner.rows import entered, fresh, reason
from tests.third_party.app.models import Folder, Letter, Memo, Note

pytestmark = pytest.mark.django_db(transaction=True)

OLD = 2 * 86400


def emptied(row: Any) -> Any:
    row.state_transition("emptied")
    entered(row, OLD)
    return row


def test_a_tree_stays_whole() -> None:
    """treebeard"""
    root = Folder.objects.add_root({"name": "root"})
    inner = Folder.objects.add_child(root, {"name": "inner"})
    Folder.objects.add_child(inner, {"name": "innermost"})
    kept = Folder.objects.add_child(root, {"name": "kept"})
    emptied(inner)

    runner = one_pass(Folder)

    assert runner.counters.total("expired") == 1
    assert list(Folder.objects.values_list("name", flat=True)) == ["root", "kept"]
    assert fresh(root).numchild == 1
    assert Folder.objects.get_parent(fresh(kept)) == root
    assert Folder.objects.find_problems() == ([], [], [], [], [])


def test_a_subtree_that_is_over_as_a_whole_goes_as_a_whole() -> None:
    root = Folder.objects.add_root({"name": "root"})
    inner = Folder.objects.add_child(root, {"name": "inner"})
    innermost = Folder.objects.add_child(inner, {"name": "innermost"})
    for folder in (inner, innermost):
        emptied(folder)

    one_pass(Folder)

    assert list(Folder.objects.all()) == [root]
    assert Folder.objects.find_problems() == ([], [], [], [], [])


def test_a_node_that_moves_in_the_tree_keeps_its_state() -> None:
    root, other = (
        Folder.objects.add_root({"name": "root"}),
        Folder.objects.add_root({"name": "other"}),
    )
    inner = Folder.objects.add_child(root, {"name": "inner"})
    inner.state_transition("emptied")

    Folder.objects.move(inner, other, "last-child")

    assert fresh(inner).state == "emptied"
    assert Folder.objects.get_parent(fresh(inner)) == other


def test_what_is_deleted_softly_is_deleted_once() -> None:
    """django-safedelete: its manager hides what is deleted."""
    letter, young = emptied(Letter.objects.create()), Letter.objects.create(state="emptied")

    first, second = one_pass(Letter), one_pass(Letter)

    assert first.counters.total("expired") == 1
    assert second.counters.total("expired") == 0
    assert list(Letter.objects.all()) == [young]
    found = Letter.all_objects.get(pk=letter.pk)
    assert found.deleted is not None
    assert found.state == "emptied"


def test_what_leaves_its_state_when_it_is_deleted_is_deleted_once() -> None:
    memo = emptied(Memo.objects.create())

    first, second = one_pass(Memo), one_pass(Memo)

    assert first.counters.total("expired") == 1
    assert second.counters.total("expired") == 0
    assert (fresh(memo).state, fresh(memo).deleted) == ("archived", True)


def test_what_stays_where_it_is_says_so() -> None:
    note, another = emptied(Note.objects.create()), emptied(Note.objects.create())

    runner = one_pass(Note)

    assert runner.counters.total("expired") == 0
    for row in (note, another):
        assert fresh(row).deleted is False
        assert reason(row) == (
            "django_fsmworker.exceptions.StillThere: delete() left the row in the state emptied, "
            "and Note.objects still finds it. Let delete() move it to a state without "
            "delete_after, or let that manager hide it."
        )


def test_the_rows_own_verb_deletes_like_a_runner() -> None:
    letter = emptied(Letter.objects.create())

    assert Letter.state_do_deletes() == 1
    assert Letter.state_do_deletes() == 0

    assert Letter.all_objects.filter(pk=letter.pk).exists()

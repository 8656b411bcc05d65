"""Of equal files one is archived, whatever happens at the same moment or later."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.models import QuerySet

from django_fsmworker.testing import run_until_idle, travel
from testapp.demo import contents, places
from testapp.models import File, FileStates

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def twins(tmp_path: Path, settings: Any) -> Iterator[list[File]]:
    """Two rows of equal files, with nothing known about them yet."""
    settings.DATA_DIR = tmp_path / "data"
    paths = [tmp_path / "one", tmp_path / "two"]
    for path in paths:
        path.write_text("the same")
    yield [File.objects.create(path=str(path)) for path in paths]
    File.objects.all().delete()


def states() -> list[str]:
    return list(File.objects.order_by("pk").values_list("state", flat=True))


class TestTheSameMoment:
    def test_one_of_two_that_saw_nobody_keeps_the_content(
        self, twins: list[File], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(QuerySet, "exists", lambda self: False)
        known = {"sha256": "abc", "size": 8, "type": "text/plain"}

        assert [row.take(known) for row in twins] == [True, False]

    def test_of_two_threads_one_keeps_the_content(
        self, twins: list[File], start_thread: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        barrier = threading.Barrier(2, timeout=20)
        read = contents.fingerprint

        def together(path: str) -> contents.Fingerprint:
            barrier.wait()
            return read(path)

        monkeypatch.setattr(contents, "fingerprint", together)
        threads = [start_thread(row.state_transition_check) for row in twins]

        results = [str(thread.result()) for thread in threads]

        assert sorted(results) == ["fingerprinted", "twin"]
        assert File.objects.filter(keeps__isnull=False).count() == 1


class TestAgain:
    def test_a_check_that_is_repeated_keeps_its_content(self, twins: list[File]) -> None:
        row = twins[0]
        FileStates.check_found(row)

        assert FileStates.check_found(row) == "fingerprinted"

    def test_a_late_worker_changes_nothing(self, twins: list[File]) -> None:
        row = twins[0]
        File.objects.filter(pk=row.pk).update(state_claim=8)

        row.note({"sha256": "late"})

        row.refresh_from_db()
        assert row.sha256 == ""


class TestTheKeeper:
    def test_a_twin_waits_for_it(self, twins: list[File]) -> None:
        run_until_idle(File)
        assert states() == ["archived", "twin"]

        with travel(seconds=1):
            run_until_idle(File)

        assert states() == ["archived", "duplicate"]

    def test_if_it_fails_the_twin_takes_its_place(
        self, twins: list[File], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pack = contents.pack

        def fails_for_the_first(path: str, copy: Path, expected: contents.Fingerprint) -> None:
            if copy == places.copy_of(twins[0].pk):
                raise OSError("no")
            pack(path, copy, expected)

        monkeypatch.setattr(contents, "pack", fails_for_the_first)

        for seconds in range(6):
            with travel(seconds=seconds):
                run_until_idle(File, raise_failures=False)

        assert states() == ["failed", "archived"]
        assert [row.keeps is None for row in File.objects.order_by("pk")] == [True, False]


class TestContents:
    def test_a_file_that_changed_is_not_archived(self, twins: list[File], tmp_path: Path) -> None:
        found = contents.fingerprint(twins[0].path)
        Path(twins[0].path).write_text("another one")

        with pytest.raises(contents.Changed, match="changed after it was fingerprinted"):
            contents.pack(twins[0].path, tmp_path / "copies" / "1.gz", found)

        assert list((tmp_path / "copies").iterdir()) == []

    def test_a_copy_that_differs_is_noticed(self, twins: list[File], tmp_path: Path) -> None:
        copy = tmp_path / "1.gz"
        contents.pack(twins[0].path, copy, contents.fingerprint(twins[0].path))

        with pytest.raises(contents.CopyDiffers):
            contents.compare(copy, contents.Fingerprint("0" * 64, 8))

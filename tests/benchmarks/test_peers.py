from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from benchmarks.peers.harness import UP, paced, wait_for_the_others
from benchmarks.peers.roster import PEERS, Peer, Setting, chosen
from tests.paths import ROOT
from tests.waiting import eventually


class TestChosen:
    def test_all_unless_somebody_says_which(self) -> None:
        assert chosen(None) == list(PEERS)

    def test_by_name_in_any_case(self) -> None:
        assert [peer.name for peer in chosen("oban, PGQUEUER")] == ["Oban", "PgQueuer"]

    def test_an_empty_list_chooses_none(self) -> None:
        assert chosen("") == []

    def test_an_unknown_one_is_refused(self) -> None:
        with pytest.raises(SystemExit) as error:
            chosen("celery")

        assert str(error.value) == (
            "There is no peer 'celery'; there are: "
            "pgqueuer, pgqrs, oban, procrastinate, django-tasks-db, "
            "django-ox, django-absurd, django-logic."
        )


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.module)
class TestRoster:
    def test_every_version_is_pinned(self, peer: Peer) -> None:
        for requirement in peer.requirements:
            assert re.fullmatch(r"[\w-]+(\[[\w,]+\])?==[\d.]+", requirement)

    def test_it_has_a_worker_script(self, peer: Peer) -> None:
        module = ROOT / "benchmarks/peers" / f"{peer.module}.py"

        assert "main(" in module.read_text()


def test_keys_are_paced_by_about_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)

    assert list(paced(5, 50, 0.1)) == list(range(5, 55))
    assert all(0.08 <= each <= 0.12 for each in slept)
    assert len(set(slept)) > 1


class TestTogether:
    def test_more_processes_have_as_much_more_to_do(self) -> None:
        one = Setting("limit=200", 10_000, ("limit=200",))

        assert one.together(4) == Setting("4 x limit=200", 40_000, ("limit=200",), 4)

    def test_of_several_processes_there_may_be_fewer(self) -> None:
        four = Setting("4 processes, persistent", 1_000, processes=4)

        assert four.together(1) == Setting("1 x persistent", 250)

    def test_none_begins_before_all_are_up(self, tmp_path: Path) -> None:
        first = threading.Thread(target=wait_for_the_others, args=(tmp_path, 2))
        first.start()
        eventually(lambda: list(tmp_path.iterdir()))
        assert first.is_alive()

        Path(tmp_path, f"another{UP}").touch()
        first.join(10)

        assert not first.is_alive()

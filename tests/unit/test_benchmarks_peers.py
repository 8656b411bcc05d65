from __future__ import annotations

import re

import pytest

from tests.benchmarks.peers.harness import paced
from tests.benchmarks.peers.roster import PEERS, Peer, chosen
from tests.passes import ROOT


class TestChosen:
    def test_all_unless_somebody_says_which(self) -> None:
        assert chosen(None) == list(PEERS)

    def test_by_name_in_any_case(self) -> None:
        assert [peer.name for peer in chosen("oban, PGQUEUER")] == ["Oban", "PgQueuer"]

    def test_none(self) -> None:
        assert chosen("") == []

    def test_an_unknown_one_is_refused(self) -> None:
        with pytest.raises(SystemExit) as error:
            chosen("celery")

        assert str(error.value) == (
            "There is no peer 'celery'; there are: "
            "pgqueuer, pgqrs, oban, procrastinate, django-tasks-db."
        )


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.module)
class TestRoster:
    def test_every_version_is_pinned(self, peer: Peer) -> None:
        for requirement in peer.requirements:
            assert re.fullmatch(r"[\w-]+(\[[\w,]+\])?==[\d.]+", requirement)

    def test_it_has_a_worker_script(self, peer: Peer) -> None:
        module = ROOT / "tests/benchmarks/peers" / f"{peer.module}.py"

        assert "main(" in module.read_text()


def test_keys_are_paced_by_about_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)

    assert list(paced(5, 50, 0.1)) == list(range(5, 55))
    assert all(0.08 <= each <= 0.12 for each in slept)
    assert len(set(slept)) > 1

"""Rows that are due again at once stay in the same hands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from django_fsmworker.runner import settler
from tests.app.models import Chain, CheckLog
from tests.runner.embedded import Embedded, one_pass
from tests.runner.rows import fresh

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each claim of a store brought."""
    from django_fsmworker.store import STORES

    brought: list[int] = []

    def counting(claim: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        def counted(*arguments: Any) -> list[Any]:
            rows = claim(*arguments)
            brought.append(len(rows))
            return rows

        return counted

    for store in STORES.values():
        monkeypatch.setattr(store, "claim", counting(store.claim))
    return brought


class HeldSteps:
    """Each step of a chain notes the token under which it is taken, and waits until released."""

    def __init__(self) -> None:
        self.tokens: list[int | None] = []
        self.released = threading.Event()

    def __call__(self, row: Chain, target: Any) -> Any:
        self.tokens.append(fresh(row).state_claim)
        self.released.wait(30)
        return target


@pytest.fixture
def held_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldSteps]:
    held = HeldSteps()
    monkeypatch.setattr(Chain, "step", lambda row, target: held(row, target))
    yield held
    held.released.set()


def all_done() -> bool:
    return not Chain.objects.exclude(state="last").exists()


def test_a_chain_is_claimed_once(
    start_runner: Start, eventually: Eventually, claims: list[int]
) -> None:
    Chain.objects.bulk_create([Chain() for _ in range(50)])

    runner = start_runner(Chain)
    eventually(all_done)

    assert sum(claims) == 50
    assert CheckLog.objects.count() == 150
    eventually(lambda: runner.total("moved") == 150)
    assert not Chain.objects.exclude(state_claim=None, state_lease=None).exists()


def test_each_step_has_a_token_of_its_own(
    start_runner: Start, eventually: Eventually, held_steps: HeldSteps
) -> None:
    held_steps.released.set()
    Chain.objects.create()

    start_runner(Chain)
    eventually(all_done)

    assert len(held_steps.tokens) == 3
    assert len({*held_steps.tokens} - {None}) == 3


def test_after_so_many_steps_others_get_their_turn(
    start_runner: Start,
    eventually: Eventually,
    claims: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settler, "MOST_STEPS", 1)
    Chain.objects.create()

    start_runner(Chain)
    eventually(all_done)

    assert sum(claims) == 2


def test_not_in_a_single_pass() -> None:
    row = Chain.objects.create()

    one_pass(Chain)

    assert fresh(row).state == "second"


def test_a_row_that_is_moved_meanwhile_does_not_go_on(
    start_runner: Start, eventually: Eventually, held_steps: HeldSteps
) -> None:
    row = Chain.objects.create()
    runner = start_runner(Chain, lease=30)
    eventually(lambda: held_steps.tokens)

    row.state_transition("last")
    held_steps.released.set()
    eventually(lambda: runner.total("superseded") == 1)

    assert fresh(row).state == "last"
    assert len(held_steps.tokens) == 1


def test_stopping_between_two_steps_frees_the_row(
    start_runner: Start, eventually: Eventually, held_steps: HeldSteps
) -> None:
    row = Chain.objects.create()
    runner = start_runner(Chain)
    eventually(lambda: held_steps.tokens)

    runner.runner.stop(30)
    held_steps.released.set()
    runner.stop(30)

    assert (fresh(row).state, fresh(row).state_claim, fresh(row).state_lease) == (
        "second",
        None,
        None,
    )
    assert fresh(row).state_failures == 0

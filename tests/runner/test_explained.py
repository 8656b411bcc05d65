"""An explanation agrees with what a runner claims: over random rows, pauses, limits and states."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.models import Event, Explanation
from django_fsmworker.models.event import is_event
from django_fsmworker.models.limits import WHOLE_LANE, Bucket
from django_fsmworker.pauses import pause
from django_fsmworker.runner import StatorRunner
from django_fsmworker.store import buckets, pauses, permits, store_for
from tests.app.models import Account, Parcel
from tests.database.rows import FUTURE, PAST, put

pytestmark = pytest.mark.django_db(transaction=True)

STATES = Parcel.state_graph.states
CARRIERS = (1, 2, None)
LEASE = 600.0
TURNS = 8


def choices() -> dict[str, Callable[[], object]]:
    """What may be paused, or used up, each more often than not left out."""
    found: dict[str, Callable[[], object]] = {
        "everything paused": lambda: random.random() < 0.3 and pause(),
        "parcels paused": lambda: random.random() < 0.5 and pause(Parcel),
        "accounts paused": lambda: pause(Account),
        "events paused": lambda: pause(Event),
        "a key paused": lambda: pause(Parcel, "keyed", key=random.choice(CARRIERS)),
        "a breaker": lambda: breaker(random.choice([30.0, -1.0])),
        "no tokens": lambda: use_up("rated", WHOLE_LANE),
        "no tokens of a key": lambda: use_up("metered", random.choice(CARRIERS)),
        "permits": lambda: take("limited", WHOLE_LANE),
        "permits of five": lambda: take("five", WHOLE_LANE),
        "permits of a key": lambda: take("keyed", random.choice(CARRIERS)),
    }
    for name in STATES:
        found[f"{name} paused"] = lambda name=name: random.random() < 0.5 and pause(Parcel, name)  # type: ignore[misc]
    return {name: do for name, do in found.items() if random.random() < 0.35}


def breaker(seconds: float) -> None:
    pauses.add("default", Parcel._meta.label, "broken", WHOLE_LANE, seconds, kind="breaker")


def take(state: str, key: Any) -> None:
    limit = STATES[state].limits.limit or 0
    number = random.randint(1, limit)
    store_for("default").permits.take(Parcel, state, limit, {key: number}, 1, LEASE)


def use_up(state: str, key: Any) -> None:
    rate: Any = STATES[state].limits.rate
    buckets.take(store_for("default"), Parcel, state, rate, {key: 1})
    Bucket.objects.filter(state=state).update(full_at=clock.now() + timedelta(hours=1))


def made() -> list[Any]:
    rows: list[Any] = []
    for _ in range(70):
        row = Parcel.objects.create(
            state=random.choice([*STATES]),
            carrier=random.choice(CARRIERS),
            rank=random.randint(0, 3),
        )
        held = random.random() < 0.15
        put(
            row,
            state_next=random.choice([PAST, PAST, PAST, PAST, FUTURE, None]),
            state_lease=FUTURE if held else None,
            state_claim=4 if held else None,
            state_failures=random.choice([0, 0, 0, 2]),
        )
        rows.append(row)
    for _ in range(TURNS):
        Account.objects.create().state_submit("nothing")
    return rows + list(Event.objects.all())


def claimed_by_a_runner() -> set[tuple[bool, Any]]:
    """The rows that a runner claims until it finds no more, as long as it runs none of them."""
    runner = StatorRunner([Parcel, Account], concurrency=500, lease=LEASE)
    in_vain = 0
    while in_vain < 3:
        in_vain = 0 if runner.parts.claimer.claim() else in_vain + 1
    return {(is_event(each.model), each.pk) for each in runner.parts.in_flight.all()}


@pytest.mark.parametrize(
    "turn", [*range(3), *(pytest.param(turn, marks=pytest.mark.long) for turn in range(3, 8))]
)
def test_it_agrees_with_what_a_runner_claims(turn: int) -> None:
    seed = random.randrange(2**32) + turn  # each test begins with the same numbers
    random.seed(seed)
    rows, chosen = made(), choices()
    for do in chosen.values():
        do()
    explained: dict[tuple[bool, Any], Explanation] = {
        (is_event(type(row)), row.pk): row.state_explain() for row in rows
    }
    in_use = {
        (state, key): permits.in_use("default", Parcel._meta.label, state, key)
        for state in ("limited", "five", "keyed")
        for key in (CARRIERS if state == "keyed" else [WHOLE_LANE])
    }

    taken = claimed_by_a_runner()

    claimable: Counter[Any] = Counter()
    found: Counter[Any] = Counter()
    wrong: dict[Any, Any] = defaultdict(list)
    for row in rows:
        name = is_event(type(row)), row.pk
        state = STATES.get(row.state) if not name[0] else None
        key = row.carrier if state and state.limits.key else WHOLE_LANE
        lane = (row.state, key)
        is_on_trial = name in taken and any(
            each.evidence.get("on_trial") for each in explained[name].reasons
        )
        if explained[name].claimable:
            claimable[lane] += 1
            found[lane] += name in taken
            if name not in taken and (
                state is None or not (state.limits.limit or state.limits.rate)
            ):
                wrong["not taken"].append((row, explained[name].codes))
        elif is_on_trial:
            found["trial"] += 1
        elif name in taken:
            wrong["taken"].append((row, explained[name].codes))
    for (name_of_state, key), number in claimable.items():
        limits = STATES[name_of_state].limits if name_of_state in STATES else None
        if limits is not None and limits.limit is not None:
            free = limits.limit - in_use[name_of_state, key]
            if found[name_of_state, key] != min(free, number):
                wrong["limit"].append((name_of_state, key, free, number))
        elif limits is not None and limits.rate is not None:
            if found[name_of_state, key] < min(limits.rate.depth, number):
                wrong["rate"].append((name_of_state, key, number))
    assert dict(wrong) == {}, f"with {', '.join(chosen) or 'nothing'}; seed {seed}"
    assert found["trial"] <= 1
    assert all(each.reasons for each in explained.values())

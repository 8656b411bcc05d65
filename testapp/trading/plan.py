"""What happens to each order, and which process says so: the same for the same number of orders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from random import Random
from typing import Any

SOURCES = ("exchange-1", "exchange-2", "bank", "people")
PERSON = "people"

# The lives that orders take turns in.
LIVES = ("filled", "approved", "cancelled", "overfilled", "expired", "held", "forgotten")

# Seconds after which an order ends that nobody fills.
GOOD_FOR = 1.0


@dataclass(frozen=True)
class Step:
    """An event for the order at `position`, whose `key` tells it from all others."""

    position: int
    trigger: str
    key: str
    context: dict[str, Any] = field(default_factory=dict)
    delay: float | None = None


@dataclass(frozen=True)
class OrderPlan:
    """An order to be placed, and what each source will say of it, in its order."""

    quantity: int
    price: int
    state: str
    steps: dict[str, list[Step]]


def plan_of(position: int) -> OrderPlan:
    """The plan of the order at `position` of the list."""
    random, life = Random(position), LIVES[position % len(LIVES)]
    quantity, price = random.randint(20, 200), random.randint(1, 9)
    steps: dict[str, list[Step]] = {source: [] for source in SOURCES}

    def say(source: str, trigger: str, *, delay: float | None = None, **context: int) -> None:
        key = f"{source}-{position}-{len(steps[source])}"
        steps[source].append(Step(position, trigger, key, context, delay))

    share = {"cancelled": 0.5, "overfilled": 1.5, "expired": 0.6, "forgotten": 0.0}.get(life, 1.0)
    parts = split(int(quantity * share), random)
    for number, part in enumerate(parts):
        say(SOURCES[number % 2], "fill", quantity=part)
    for amount in split(int(quantity * share) * price, random)[:3]:
        say("bank", "pay", amount=amount)
    if life == "held":
        say(PERSON, "hold")
    if life in ("approved", "held"):
        say(PERSON, "approve")
    if life == "cancelled":
        say(PERSON, "cancel")
    if life in ("expired", "forgotten"):
        say("exchange-1", "expire", delay=GOOD_FOR)
    return OrderPlan(quantity, price, "held" if life == "approved" else "open", steps)


def steps_of(source: str, number: int) -> Iterator[Step]:
    """What one source says of all orders: the first of each, the second of each, and so on."""
    each = [plan_of(position).steps[source] for position in range(number)]
    return (step for step in chain.from_iterable(zip_longest(*each)) if step is not None)


def split(total: int, random: Random) -> list[int]:
    """`total` in up to six parts of one or more."""
    parts: list[int] = []
    while total and len(parts) < 5:
        parts.append(random.randint(1, total))
        total -= parts[-1]
    return [*parts, total] if total else parts

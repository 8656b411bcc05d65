"""Rows under every sort of limit: a state for each."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import models

from django_fsmworker.graph import Breaker, State, StateGraph
from django_fsmworker.models import StateField, StatorModel

HEAVY = 9


class ParcelStates(StateGraph):
    new = State(manual=True)
    limited = State(limit=2)
    five = State(limit=5)
    keyed = State(limit=2, limit_by="carrier")
    rated = State(rate="10/s", burst=3)
    metered = State(rate="10/s", rate_by="carrier", burst=2)
    brisk = State(rate="50/s", rate_by="carrier")
    fair = State(fair_by="carrier", weight=lambda key: 3 if key == HEAVY else 1)
    ranked = State(priority="rank")
    urgent = State(priority=9)
    small = State(share=0.5)
    broken = State(breaker=Breaker(failures=0.5, over=60, pause=30, least=4))
    plain = State()
    sent = State()

    new.transitions_to(
        five, brisk, limited, keyed, rated, metered, fair, ranked, urgent, small, broken, plain
    )
    limited.transitions_to(sent)
    five.transitions_to(sent)
    brisk.transitions_to(sent)
    keyed.transitions_to(sent)
    rated.transitions_to(sent)
    metered.transitions_to(sent)
    fair.transitions_to(sent)
    ranked.transitions_to(sent)
    urgent.transitions_to(sent)
    small.transitions_to(sent)
    broken.transitions_to(sent, limited)
    plain.transitions_to(sent)

    @classmethod
    def send(cls, row: Parcel) -> Any:
        return SENDING[row.mode](row)

    check_five = check_brisk = check_limited = check_keyed = check_rated = check_metered = (
        check_fair
    ) = send
    check_ranked = check_urgent = check_small = check_broken = check_plain = send


class Parcel(StatorModel):
    state = StateField(ParcelStates)
    carrier = models.IntegerField(null=True)
    rank = models.SmallIntegerField(default=0)
    mode = models.CharField(max_length=40, default="send")
    seconds = models.FloatField(default=0)

    def __str__(self) -> str:
        return f"parcel {self.pk}"


def hang(row: Parcel) -> str:
    time.sleep(row.seconds)
    return "sent"


def take_slot(row: Parcel) -> str:
    """Hold one of as many locks as the state's limit; note it where there is none left.

    The system lets go of them when the process is killed.
    """
    folder = Path(os.environ["PARCEL_SLOTS"])
    limit = row.state_graph.states[row.state].limits.limit
    for slot in range(limit or 0):
        with (folder / f"slot{slot}").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            time.sleep(row.seconds)
            return "sent"
    (folder / "too-many").touch()
    return "sent"


def fail(row: Parcel) -> str:
    raise RuntimeError("the carrier is on strike")


SENDING: dict[str, Callable[[Parcel], Any]] = {
    "send": lambda row: "sent",
    "stay": lambda row: None,
    "hang": hang,
    "fail": fail,
    "slot": take_slot,
    "limit": lambda row: "limited",
}

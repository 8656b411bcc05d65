"""Graphs as diagrams."""

from __future__ import annotations

import json

import pytest
from django.db.models import Q
from django.db.models.functions import Abs
from django.db.models.lookups import GreaterThan

from django_fsmworker.diagram.description import Edge, StateBox, describe
from django_fsmworker.diagram.formats import draw
from django_fsmworker.graph import State, StateGraph
from django_fsmworker.graph.conditions import condition_text


class ParcelStates(StateGraph):
    """One of everything."""

    packed = State(label="Packed up", max_attempts=3, deadline=10, retry_after=90)
    state = State(manual=True)
    waiting = State(retry_after=5)
    gone = State(delete_after=7200)

    packed.transitions_to(state)
    packed.fails_to(gone)
    state.on("release", to=waiting, when=Q(paid=True))
    state.on("note", action="write_down")
    state.timeout_to(gone, seconds=3600)
    waiting.transitions_to(gone, when=Q(seen=True) & ~Q(weight__gt=10))

    @classmethod
    def check_packed(cls, row: object) -> None: ...

    @classmethod
    def write_down(cls, row: object, event: object) -> None: ...


class TestDescription:
    def test_states(self) -> None:
        assert describe(ParcelStates).states == (
            StateBox(
                "packed",
                "Packed up",
                "checked",
                True,
                "check_packed",
                ("tried again after 1 min 30 s", "at most 3 attempts", "deadline 10 s"),
            ),
            StateBox("state", "state", "manual", False, None, ()),
            StateBox("waiting", "waiting", "swept", False, None, ("looked at every 5 s",)),
            StateBox("gone", "gone", "terminal", False, None, ("deleted after 2 h",)),
        )

    def test_edges(self) -> None:
        assert describe(ParcelStates).edges == (
            Edge("packed", "state", "check", ""),
            Edge("packed", "gone", "failure", "after 3 failures"),
            Edge("state", "gone", "timeout", "after 1 h"),
            Edge("state", "waiting", "event", "release if paid=True"),
            Edge("state", None, "event", "note"),
            Edge("waiting", "gone", "guard", "seen=True and not (weight__gt=10)"),
        )


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (Q(a=1), "a=1"),
        (Q(a=1) | Q(b="x"), "a=1 or b='x'"),
        ((Q(a=1) | Q(b=2)) & Q(c=3), "(a=1 or b=2) and c=3"),
        (~Q(a=1), "not (a=1)"),
        (~(Q(a=1) & Q(b=2)), "not (a=1 and b=2)"),
        (GreaterThan(Abs("a"), 3), "GreaterThan(Abs(F(a)), Value(3))"),
        (len, "len"),
    ],
)
def test_conditions(when: object, text: str) -> None:
    assert condition_text(when) == text


def test_text() -> None:
    assert draw(ParcelStates) == (
        "ParcelStates\n"
        "\n"
        "packed (Packed up): checked, initial, tried again after 1 min 30 s, at most 3 attempts, "
        "deadline 10 s\n"
        "    -> state  [check]\n"
        "    -! gone  [failure: after 3 failures]\n"
        "\n"
        "state: manual\n"
        "    -@ gone  [timeout: after 1 h]\n"
        "    => waiting  [event: release if paid=True]\n"
        "    => stays  [event: note]\n"
        "\n"
        "waiting: swept, looked at every 5 s\n"
        "    -? gone  [guard: seen=True and not (weight__gt=10)]\n"
        "\n"
        "gone: terminal, deleted after 2 h"
    )


def test_json() -> None:
    found = json.loads(draw(ParcelStates, "json"))

    assert [each["name"] for each in found["states"]] == ["packed", "state", "waiting", "gone"]
    assert found["edges"][0] == {"source": "packed", "target": "state", "kind": "check", "text": ""}


def test_mermaid() -> None:
    assert draw(ParcelStates, "mermaid").splitlines() == [
        "stateDiagram-v2",
        '    state "Packed up" as packed',
        "    packed : tried again after 1 min 30 s, at most 3 attempts, deadline 10 s",
        "    [*] --> packed",
        '    state "state" as state_state',
        '    state "waiting" as waiting',
        "    waiting : looked at every 5 s",
        '    state "gone" as gone',
        "    gone : deleted after 2 h",
        "    packed --> state_state",
        "    packed --> gone : after 3 failures",
        "    state_state --> gone : after 1 h",
        "    state_state --> waiting : release if paid=True",
        "    state_state --> state_state : note",
        "    waiting --> gone : [seen=True and not (weight__gt=10)]",
        "    gone --> [*]",
    ]


def test_mermaid_has_no_character_that_would_end_a_label() -> None:
    class OddStates(StateGraph):
        new = State(label='a "b": <c>; #d', manual=True)
        old = State()

        new.transitions_to(old)

    line = draw(OddStates, "mermaid").splitlines()[1]

    assert line == '    state "a #quot;b#quot;#58; #lt;c#gt;#59; #35;d" as new'


def test_dot() -> None:
    lines = draw(ParcelStates, "dot").splitlines()

    assert lines[0] == 'digraph "ParcelStates" {'
    assert lines[-1] == "}"
    assert '    "gone" [label="gone\\ndeleted after 2 h", shape=box, peripheries=2];' in lines
    assert '    "packed" -> "gone" [label="after 3 failures", style=solid, color=red];' in lines
    assert '    "state" -> "state" [label="note", style=solid, color=blue];' in lines

"""The wire form of hints: what is encoded is parsed, and nothing else is, nor raises."""

from __future__ import annotations

import random

import pytest

from django_fsmworker.models.hints import EVERY_MODEL, NOW, PROBE, SOON, SWEEP, Hint


@pytest.mark.parametrize("urgency", [NOW, SOON, SWEEP])
@pytest.mark.parametrize("label", ["tests.Noop", "größen.Maß", "a_1.B_2", EVERY_MODEL])
def test_what_is_encoded_is_parsed(label: str, urgency: str) -> None:
    hint = Hint(label, urgency)

    assert hint.encode() == f"{label} {urgency}"
    assert Hint.parse(hint.encode()) == hint
    assert not hint.is_probe


def test_a_probe_is_parsed_and_is_like_no_other() -> None:
    probe = Hint.probe()

    assert Hint.parse(probe.encode()) == probe
    assert probe.is_probe
    assert probe != Hint.probe()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "*",
        "* ",
        " now",
        "now",
        "?",
        "? ",
        "? now",
        "? 0123456789abcde",
        "? 0123456789ABCDEF",
        "* 0123456789abcdef",
        "* never",
        "* NOW",
        "* now ",
        " * now",
        "* now\n",
        "*  now",
        "* now now",
        "** now",
        "Noop now",
        "tests. now",
        ".Noop now",
        "tests.Noop",
        "tests.Noop.x now",
        "tests.Noop\x00 now",
        "tests.No-op now",
        "tests.\N{REPLACEMENT CHARACTER} now",
        "x" * 8000,
        "x." * 4000,
        "x.x now " * 1000,
    ],
)
def test_what_is_no_hint(text: str) -> None:
    assert Hint.parse(text) is None


@pytest.mark.parametrize("seed", range(20))
def test_random_text_is_a_hint_or_none(seed: int) -> None:
    chosen = random.Random(seed)
    pieces = [EVERY_MODEL, PROBE, NOW, SOON, SWEEP, "tests.Noop", "0123456789abcdef"]
    pieces += [" ", " ", ".", "", "\n", "\x00", "\x1b[31m", "\ud800", "\N{GREEK SMALL LETTER MU}"]

    for _ in range(1000):
        text = "".join(chosen.choices(pieces, k=chosen.randint(0, 5)))
        hint = Hint.parse(text)
        assert hint is None or hint.encode() == text


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_no_hint(seed: int) -> None:
    chosen = random.Random(seed)

    for length in (*range(50), 8000):
        assert Hint.parse(chosen.randbytes(length).decode(errors="replace")) is None

"""What a state may declare of limits, and what it is told where that is wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from django_fsmworker.exceptions import GraphError
from django_fsmworker.graph import Breaker, Rate, State
from tests.unit.graphs import check, define, refusal, straight


def declared(**options: Any) -> Any:
    return define(straight, new=State(**options), done=State(), check_new=check).new.limits


def refused(**options: Any) -> str:
    sentence: str = refusal(straight, new=State(**options), done=State(), check_new=check)
    return sentence


class TestDeclaring:
    def test_nothing_is_limited_by_itself(self):
        limits = declared()

        assert not limits
        assert (limits.key, limits.are_asked, limits.rank) == (None, False, 0)

    def test_all_name_one_key(self):
        limits = declared(limit=5, limit_by="a", rate="3/s", rate_by="a", fair_by="a")

        assert (limits.key, limits.limit, limits.rate) == ("a", 5, Rate(3, 1))
        assert limits.are_asked

    def test_a_column_of_priorities_is_the_key(self):
        limits = declared(priority="rank")

        assert (limits.key, limits.is_ranked, limits.rank) == ("rank", True, 0)

    def test_a_priority_of_the_state_asks_for_nothing(self):
        limits = declared(priority=9)

        assert (limits.are_asked, limits.rank) == (False, 9)

    def test_a_subclass_s_states_have_them_too(self):
        graph = define(straight, new=State(limit=5), done=State(), check_new=check)

        child: Any = type("Child", (graph,), {})
        assert child.new.limits.limit == 5

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"limit": 0}, "limit=0 is not a whole number from 1 to 10000; give one."),
            ({"limit_by": "a"}, "limit_by belongs to limit, and it has none; give limit, too."),
            ({"rate_by": "a"}, "rate_by belongs to rate, and it has none; give rate, too."),
            (
                {"weight": len},
                "weight belongs to fair_by, and it has none; give fair_by, too.",
            ),
            (
                {"fair_by": "a b"},
                "fair_by='a b' is not the name of a column; give one, as a str.",
            ),
            (
                {"limit": 1, "limit_by": "a", "fair_by": "b"},
                "limit_by='a' and fair_by='b' name different columns, and a state has one key; "
                "name the same column.",
            ),
            (
                {"fair_by": "a", "priority": "rank"},
                "fair_by and a priority='rank' that is a column exclude each other, because a "
                "state has one key; give priority a number, or leave one of them out.",
            ),
            (
                {"priority": 10},
                "priority=10 is neither a whole number from 0 to 9 nor the name of a column; give "
                "one of them.",
            ),
            (
                {"rate": "fast"},
                "rate='fast' is not a rate; give a number and s, m or h, such as '100/m'.",
            ),
            ({"rate": 5}, "rate=5 is not a rate; give a text such as '100/m', or a Rate."),
            ({"rate": "0/s"}, "rate of 0 is not a whole number from 1 on; give one."),
            ({"rate": "5/s", "burst": 0}, "burst=0 is not a whole number from 1 on; give one."),
            (
                {"burst": 5},
                "burst is the burst of a rate, and it has none; give rate, or remove burst.",
            ),
            ({"rate": Rate(5), "burst": 5}, "burst is given twice; give it to Rate() only."),
            (
                {"fair_by": "a", "weight": 3},
                "weight=3 is not callable; give a callable from a key to its weight.",
            ),
            ({"share": 0}, "share=0 is no part of all slots; give more than 0 and at most 1."),
            (
                {"breaker": 0.5},
                "breaker=0.5 is no Breaker; give one, such as Breaker(failures=0.5).",
            ),
        ],
    )
    def test_what_is_wrong_is_refused(self, options, text):
        assert refused(**options) == f"Graph.new: {text}"

    def test_limits_are_for_checks(self):
        assert refusal(
            lambda new, held, done: (new.transitions_to(held), held.transitions_to(done)),
            new=State(),
            held=State(manual=True, limit=5),
            done=State(),
            check_new=check,
        ) == (
            "Graph.held: limits are for checks, and the runner runs no check here; remove limit, "
            "rate, fair_by and the like."
        )


class TestRate:
    @pytest.mark.parametrize(
        ("text", "interval", "depth"),
        [("100/m", 0.6, 2), ("50/s", 0.02, 50), ("1/h", 3600, 1), (" 5 / s ", 0.2, 5)],
    )
    def test_is_read_from_a_text(self, text, interval, depth):
        rate = Rate.parse(text)

        assert rate.interval == pytest.approx(interval)
        assert rate.depth == depth

    def test_may_have_any_time(self):
        rate = Rate(3, timedelta(minutes=5), burst=7)

        assert (rate.interval, rate.depth, str(rate)) == (100, 7, "3 in 300 s")

    def test_needs_a_time(self):
        with pytest.raises(GraphError, match="per=0 is not above zero"):
            Rate(3, 0)


class TestBreaker:
    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"failures": 0}, "Breaker\\(failures=0\\) is no part of all attempts"),
            ({"failures": True}, "Breaker\\(failures=True\\) is no part of all attempts"),
            ({"over": 0}, "over=0 is not above zero"),
            ({"pause": -1}, "pause=-1 is not above zero"),
            ({"least": 0}, "least=0 is not a whole number"),
        ],
    )
    def test_what_is_wrong_is_refused(self, options, text):
        with pytest.raises(GraphError, match=text):
            Breaker(**options)

    def test_takes_times_of_both_kinds(self):
        breaker = Breaker(over=timedelta(minutes=2), pause=5)

        assert (breaker.window, breaker.pause_seconds) == (120, 5)

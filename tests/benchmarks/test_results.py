from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.requirements import Requirement, Verdict, line
from benchmarks.results import CaseResult, Mismatch, Results, Series
from benchmarks.statistics import median

FASTER = Requirement("a rate", 2.0, "x", lambda result: median(result.one("us").values))
SOONER = Requirement(
    "a delay", 3.0, "ms", lambda result: median(result.one("us").values), at_most=True
)


def case(*values: float, **changes: object) -> CaseResult:
    result = CaseResult("drain", "2026-11-24T10:00:00+00:00", "python -m benchmarks drain")
    result.series = [Series("us", "default", "rows/s", values=list(values))]
    for name, value in changes.items():
        setattr(result, name, value)
    return result


class TestLines:
    @pytest.mark.parametrize(
        ("requirement", "value", "verdict"),
        [
            (FASTER, 2.0, Verdict.HOLDS),
            (FASTER, 1.9, Verdict.MISSED),
            (SOONER, 3.0, Verdict.HOLDS),
            (SOONER, 3.1, Verdict.MISSED),
        ],
    )
    def test_what_reaches_its_limit_holds(
        self, requirement: Requirement, value: float, verdict: Verdict
    ) -> None:
        assert line(requirement, "drain", case(value)).verdict is verdict

    def test_a_line_says_what_was_wanted_and_reached(self) -> None:
        judged = line(SOONER, "drain", case(1234.5))

        assert (judged.target, judged.reached) == ("at most 3.00 ms", "1,234.50 ms")

    @pytest.mark.parametrize(
        "result", [None, case(), case(5.0, error="it broke"), case(5.0, series=[])]
    )
    def test_what_was_not_measured_is_not_judged(self, result: CaseResult | None) -> None:
        judged = line(FASTER, "drain", result)

        assert (judged.verdict, judged.reached) == (Verdict.UNKNOWN, "–")

    def test_a_rate_that_is_not_proven_does_not_hold(self) -> None:
        result = case(5.0)
        result.series[0].problems.append("1 of 3 ran again")

        assert line(FASTER, "drain", result).verdict is Verdict.WRONG

    def test_a_peer_that_fails_is_not_our_failure(self) -> None:
        result = case(5.0)
        peer = Series("them", "default", "jobs/s", True, problems=["1 of 3 never ran"])
        result.series.append(peer)

        assert line(FASTER, "drain", result).verdict is Verdict.HOLDS

    def test_one_of_two_is_enough(self) -> None:
        either = Requirement("either", 9.0, "x", FASTER.reached, otherwise=SOONER)

        judged = line(either, "drain", case(2.5))

        assert judged.verdict is Verdict.HOLDS
        assert judged.target == "at least 9.00 x, or at most 3.00 ms"
        assert judged.reached == "2.50 x, 2.50 ms"


class TestResults:
    def test_come_back_from_their_file(self, tmp_path: Path) -> None:
        results = Results({"machine": {"memory": "24 GiB"}}, {"drain": case(1.5, 2.5)})

        results.save(tmp_path / "results.json")

        assert Results.load(tmp_path / "results.json") == results

    def test_keep_five_digits(self, tmp_path: Path) -> None:
        Results({}, {"drain": case(123456.789)}).save(tmp_path / "results.json")

        loaded = Results.load(tmp_path / "results.json")

        assert loaded.cases["drain"].series[0].values == [123460.0]

    def test_a_case_measured_again_replaces_the_earlier_one(self) -> None:
        earlier = Results({"machine": {"memory": "24 GiB"}}, {"a": case(1.0), "b": case(2.0)})
        now = Results({"machine": {"memory": "24 GiB"}}, {"b": case(3.0)})

        merged = now.merged_with(earlier)

        assert {name: each.series[0].values for name, each in merged.cases.items()} == {
            "a": [1.0],
            "b": [3.0],
        }

    def test_facts_of_both_are_kept(self) -> None:
        earlier = Results({"peers": {"A": "a==1"}}, {"a": case(1.0)})
        now = Results({"peers": {"B": "b==1"}}, {"b": case(3.0)})

        assert now.merged_with(earlier).facts == {"peers": {"A": "a==1", "B": "b==1"}}

    def test_of_two_machines_are_not_mixed(self) -> None:
        earlier = Results({"machine": {"memory": "24 GiB"}}, {"a": case(1.0)})
        now = Results({"machine": {"memory": "8 GiB"}}, {"b": case(3.0)})

        with pytest.raises(Mismatch) as error:
            now.merged_with(earlier)

        assert str(error.value) == (
            "The file was measured with memory '24 GiB', not '8 GiB': "
            "name another file, or measure all cases again."
        )

from __future__ import annotations

import pytest

from benchmarks.statistics import median, percentile, ratio, ratios


@pytest.mark.parametrize(
    ("values", "middle"), [([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 3.0], 2.5), ([7.0], 7.0)]
)
def test_the_median_is_the_middle_one(values: list[float], middle: float) -> None:
    assert median(values) == middle


@pytest.mark.parametrize(
    ("percent", "value"), [(99, 99.0), (99.5, 100.0), (100, 100.0), (50, 50.0), (0, 1.0)]
)
def test_a_percentile_is_a_value_that_was_measured(percent: float, value: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == value


def test_the_99th_percentile_of_few_values_is_the_largest() -> None:
    assert percentile([1.0, 9.0, 2.0], 99) == 9.0


def test_a_ratio_is_that_of_the_medians() -> None:
    assert ratio([1.0, 20.0, 3.0], [6.0, 2.0, 100.0]) == 0.5


def test_the_ratios_of_runs_that_alternate_are_run_by_run() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0, 5.0]) == [2.0, 3.0]

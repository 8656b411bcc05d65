"""Medians, percentiles and spread: how many measurements become one number, and how sure it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def median(values: Sequence[float]) -> float:
    """The middle one; the mean of the two in the middle if there is none."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank: the smallest value that `percent` of all values do not exceed."""
    ordered = sorted(values)
    rank = max(1, math.ceil(percent / 100 * len(ordered)))
    return ordered[rank - 1]


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Median over median: what a reader of the table computes, too."""
    return median(values) / median(others)


def ratios(values: Sequence[float], others: Sequence[float]) -> list[float]:
    """Run by run, for the spread: runs that alternate meet the same weather."""
    return [value / other for value, other in zip(values, others, strict=False)]

"""Summaries of repeated timings: order statistics, because timings are not normal.

A timing has a hard floor and a long right tail, so the median and the quartiles
say what a mean and a standard deviation would blur.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean, median, quantiles


@dataclass(frozen=True)
class Summary:
    """Median, quartiles, and a 95 % confidence interval of the median, in the values' unit."""

    median: float
    q25: float
    q75: float
    low: float
    high: float
    reps: int


def summarise(values: Sequence[float]) -> Summary:
    """Summarise at least one value; raises ValueError on none."""
    q25, q75 = quartiles(values)
    low, high = median_interval(values)
    return Summary(median(values), q25, q75, low, high, len(values))


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The 25 % and 75 % quantiles, linear between neighbours (Hyndman and Fan's type 7)."""
    if not values:
        raise ValueError("no values to summarise: measure at least one repetition")
    if len(values) == 1:  # statistics.quantiles wants two before Python 3.13
        return values[0], values[0]
    q25, _, q75 = quantiles(values, n=4, method="inclusive")
    return q25, q75


def mean_or_nan(values: Sequence[float]) -> float:
    """The mean; NaN without values, as of a run that was stopped."""
    return fmean(values) if values else math.nan


def geometric_mean_or_nan(values: Sequence[float]) -> float:
    """The geometric mean; 0 with a value of 0 among them, NaN without values."""
    if not values:
        return math.nan
    return geometric_mean(values) if min(values) > 0 else 0.0


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """A confidence interval of the median that assumes no distribution.

    Each independent value lies below the median with probability ½, so the k-th
    smallest and the k-th largest enclose it with probability 1 − 2 P(Bin(n, ½) < k).
    The largest k that keeps the confidence is taken; with fewer than six values
    there is none at 95 %, and the interval is the whole line.

    Source: David and Nagaraja, *Order Statistics*, 3rd ed. (2003), §7.1.
    """
    n = len(values)
    k = _rank(n, confidence)
    if k == 0:
        return -math.inf, math.inf
    ordered = sorted(values)
    return ordered[k - 1], ordered[n - k]


def relative_halfwidth(values: Sequence[float]) -> float:
    """Half the width of the median's 95 % interval over the median; inf if unknown."""
    low, high = median_interval(values)
    if low == high:
        return 0.0
    middle = median(values)
    return (high - low) / 2 / middle if middle > 0 else math.inf


def _rank(n: int, confidence: float) -> int:
    """The largest k with P(Bin(n, ½) < k) ≤ (1 − confidence)/2, counted in whole numbers."""
    outcomes = 2**n
    tail, k = 0, 0
    while True:
        tail += math.comb(n, k)
        # A ratio of whole numbers: 2^n itself would overflow a float beyond n = 1023.
        if tail / outcomes > (1 - confidence) / 2:
            return k
        k += 1

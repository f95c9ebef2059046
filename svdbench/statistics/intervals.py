"""Is one arm different from another, or is it noise? Pairs that share all but the arm.

Networks trained from the same weights on the same batches vary together, so their
difference, seed by seed, varies less than each of them does. Its mean over the seeds has
a t interval, as few differences as there are; that of a ratio is formed on logarithms.

Source: Student, The probable error of a mean, Biometrika 6 (1908).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.stats import t as student

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean of ``count`` values, and what it may be.

    Attributes:
        mean: in the values' unit.
        low, high: ends of the confidence interval; of one value, the whole line.
        count: values.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def halfwidth(self) -> float:
        return (self.high - self.low) / 2

    def excludes(self, value: float) -> bool:
        """Whether ``value`` lies outside: a difference that is more than noise excludes 0."""
        return not self.low <= value <= self.high


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The mean of values that are independent and about normal, with its t interval.

    Raises:
        ValueError: no values.
    """
    return _interval(values, confidence, of_one_more=False)


def prediction_interval(values: Sequence[float]) -> Interval:
    """Where one more value of the same kind would lie, as a single published run.

    It is wider than :func:`mean_interval` by √(n + 1), as one run has the noise of one run.

    Raises:
        ValueError: no values.
    """
    return _interval(values, CONFIDENCE, of_one_more=True)


def next_run_interval(values: Sequence[float], logarithmic: bool) -> Interval | None:
    """Where one more run would lie; None without values.

    Args:
        logarithmic: form the interval on logarithms, for values that are positive and skewed,
            as losses are; None if one of them is not positive.
    """
    if not values or (logarithmic and min(values) <= 0):
        return None
    if not logarithmic:
        return prediction_interval(values)
    found = prediction_interval([math.log(value) for value in values])
    mean, low, high = (math.exp(min(x, 700.0)) for x in (found.mean, found.low, found.high))
    return Interval(mean, low, high, found.count)


def paired_difference(values: Sequence[float], baseline: Sequence[float]) -> Interval:
    """The mean of ``values − baseline``, pair by pair, with its t interval.

    Raises:
        ValueError: no pairs, or values without a partner.
    """
    return mean_interval([a - b for a, b in _pairs(values, baseline)])


def paired_ratio(values: Sequence[float], baseline: Sequence[float]) -> Interval:
    """The geometric mean of ``values / baseline``, pair by pair, with its t interval.

    Raises:
        ValueError: no pairs, values without a partner, or one that is not above 0.
    """
    pairs = _pairs(values, baseline)
    if any(a <= 0 or b <= 0 for a, b in pairs):
        raise ValueError("a ratio on logarithms is of positive values: leave out those that aren't")
    found = mean_interval([math.log(a / b) for a, b in pairs])
    return Interval(math.exp(found.mean), math.exp(found.low), math.exp(found.high), found.count)


def _pairs(values: Sequence[float], baseline: Sequence[float]) -> list[tuple[float, float]]:
    if len(values) != len(baseline):
        raise ValueError(f"{len(values)} values have no pairs among {len(baseline)}")
    return list(zip(values, baseline, strict=True))


def _interval(values: Sequence[float], confidence: float, of_one_more: bool) -> Interval:
    n = len(values)
    if not n:
        raise ValueError("no values to average: measure at least one")
    mean = fmean(values)
    if n == 1:
        return Interval(mean, -math.inf, math.inf, n)
    quantile = float(student.ppf((1 + confidence) / 2, n - 1))
    half = quantile * stdev(values) * math.sqrt(of_one_more + 1 / n)
    return Interval(mean, mean - half, mean + half, n)

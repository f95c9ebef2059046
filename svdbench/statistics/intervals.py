"""Is one arm or run different from another, or is it noise? Intervals and tests.

Networks trained from the same weights on the same batches vary together, so their
difference, seed by seed, varies less than each of them does. Its mean over the seeds has
a t interval, as few differences as there are; that of a ratio is formed on logarithms.

Timings of two runs are compared by ranks, as they are not normal: the Mann–Whitney test of
all samples, and the Hodges–Lehmann estimate of the ratio, with the interval that belongs to
the test. That takes samples to be independent, which repetitions in one burst are not: a
machine that is slow now is slow for the whole burst. By ranks alone, two halves of the same
run differ "significantly" in a quarter of all cells. So the bursts must differ, too: Welch's
test of the logarithms of their medians, or of the medians of runs where there are several.
The larger p of the two counts, and the interval that covers both.

Sources: Student, The probable error of a mean, Biometrika 6 (1908); Mann and Whitney, Ann. Math.
Statist. 18 (1947); Hodges and Lehmann, Ann. Math. Statist. 34 (1963); Welch, Biometrika 34
(1947); of the larger p, Berger, Technometrics 24 (1982); Holm, Scand. J. Statist. 6 (1979).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

import numpy as np
from scipy.stats import mannwhitneyu, norm, ttest_ind
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


# All differences of so many samples on either side are looked at; of more, as many quantiles.
_MOST = 1000


@dataclass(frozen=True)
class Ratio:
    """B over A.

    Attributes:
        ratio: its estimate.
        low, high: ends of its interval; 0 and inf where nothing is known.
        p: of the test that the ratio is 1; None where there are too few values for any.
    """

    ratio: float
    low: float
    high: float
    p: float | None


def by_ranks(
    a: Sequence[float],
    b: Sequence[float],
    bursts_a: Sequence[str],
    bursts_b: Sequence[str],
    alpha: float = 0.05,
) -> Ratio:
    """Compare positive samples by ranks, and by bursts if each side has two or more.

    Args:
        bursts_a, bursts_b: for each sample, what it was taken together with.
        alpha: the interval has the confidence 1 − ``alpha``.

    Raises:
        ValueError: no samples on a side, or one that is not above 0.
    """
    if min(a, default=0) <= 0 or min(b, default=0) <= 0:
        raise ValueError("a ratio is of positive samples: leave out those that aren't")
    found = _mann_whitney(np.log(a), np.log(b), alpha)
    medians = _medians(a, bursts_a), _medians(b, bursts_b)
    if found.p is None or min(map(len, medians)) < 2:
        return found
    bursts = _welch(*medians, alpha)
    return Ratio(
        found.ratio,
        min(found.low, bursts.low),
        max(found.high, bursts.high),
        max(found.p, bursts.p or 0.0),
    )


def _mann_whitney(a: np.ndarray, b: np.ndarray, alpha: float) -> Ratio:
    """Of logarithms; p is SciPy's, exact where there are few and no ties."""
    differences = np.subtract.outer(_thinned(b), _thinned(a))
    ratio = _exp(float(np.median(differences)))
    if min(len(a), len(b)) < 2:
        return Ratio(ratio, 0.0, math.inf, None)
    # How far P(a < b) may be off ½ by chance, and so between which differences 0 lies.
    half = norm.isf(alpha / 2) * math.sqrt((len(a) + len(b) + 1) / (12 * len(a) * len(b)))
    low, high = 0.0, math.inf
    # Of so few, the least p there is, with all of one side below the other, may be too large.
    if half < 0.5 and 2 / math.comb(len(a) + len(b), len(a)) < alpha:
        low, high = map(_exp, np.quantile(differences, [0.5 - half, 0.5 + half]))
    return Ratio(ratio, low, high, float(mannwhitneyu(a, b).pvalue))


def _welch(a: np.ndarray, b: np.ndarray, alpha: float) -> Ratio:
    """Of logarithms, of which either side has two or more."""
    difference = float(b.mean() - a.mean())
    if a.var() == 0 and b.var() == 0:  # no spread to judge the difference by
        ratio = _exp(difference)
        return Ratio(ratio, ratio, ratio, float(difference == 0))
    found = ttest_ind(b, a, equal_var=False)
    low, high = map(float, found.confidence_interval(1 - alpha))
    return Ratio(_exp(difference), _exp(low), _exp(high), float(found.pvalue))


def _medians(values: Sequence[float], bursts: Sequence[str]) -> np.ndarray:
    """Logarithms of the medians of the bursts."""
    found: dict[str, list[float]] = {}
    for value, burst in zip(values, bursts, strict=True):
        found.setdefault(burst, []).append(value)
    return np.log([median(burst) for burst in found.values()])


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def by_pairs(
    a: Sequence[float], b: Sequence[float], *, logarithms: bool, alpha: float = 0.05
) -> Ratio:
    """Compare values pair by pair; the interval has the confidence 1 − ``alpha``.

    Args:
        logarithms: the ratio is the mean one of the pairs, which must be above 0; else
            that of the means, where the mean of A is taken as known.
    """
    if logarithms:
        differences = [math.log(y / x) for x, y in zip(a, b, strict=True)]
    else:
        differences = [y - x for x, y in zip(a, b, strict=True)]
    mean = sum(a) / len(a)

    def ratio(difference: float) -> float:
        if logarithms:
            return _exp(difference)
        if mean == 0:
            return 1.0 if difference == 0 else math.copysign(math.inf, difference)
        return 1 + difference / mean

    if not any(differences):  # the same computation on the same seed, to the last bit
        return Ratio(1.0, 1.0, 1.0, 1.0)
    found = mean_interval(differences, 1 - alpha)
    p = None
    if len(a) > 1:
        error = float(np.std(differences, ddof=1)) / math.sqrt(len(a))
        p = 2 * float(student.sf(abs(found.mean) / error, len(a) - 1)) if error > 0 else 0.0
    return Ratio(ratio(found.mean), max(0.0, ratio(found.low)), ratio(found.high), p)


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted so that any false one among all has the probability asked for."""
    adjusted, least = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = least
    return adjusted


def _thinned(values: np.ndarray) -> np.ndarray:
    if len(values) <= _MOST:
        return values
    return np.quantile(values, (np.arange(_MOST) + 0.5) / _MOST)

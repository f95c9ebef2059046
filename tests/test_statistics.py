"""Statistics of samples, against numpy, published tables and binomial coverage."""

import math
import random
import statistics as stdlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from svdbench.statistics.intervals import (
    mean_interval,
    paired_difference,
    paired_ratio,
    prediction_interval,
)
from svdbench.statistics.summaries import (
    median_interval,
    quartiles,
    relative_halfwidth,
    summarise,
)

# Timings of a shared machine are no failures.
relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60)


@relaxed
@given(TIMES)
def test_quartiles_and_median_are_numpys(values: list[float]) -> None:
    summary = summarise(values)
    expected = np.quantile(values, [0.25, 0.5, 0.75])
    assert [summary.q25, summary.median, summary.q75] == pytest.approx(expected, rel=1e-12)
    assert summary.reps == len(values)


@relaxed
@given(TIMES, st.randoms(use_true_random=False))
def test_the_interval_holds_the_median_and_knows_no_order(
    values: list[float], shuffler: random.Random
) -> None:
    low, high = median_interval(values)
    assert low <= stdlib.median(values) <= high
    mixed = values[:]
    shuffler.shuffle(mixed)
    assert median_interval(mixed) == (low, high)
    assert (low == -math.inf) == (len(values) < 6)


@pytest.mark.parametrize(("n", "rank"), [(6, 1), (8, 1), (9, 2), (20, 6), (100, 40), (2000, 956)])
def test_the_interval_against_published_ranks(n: int, rank: int) -> None:
    # For small n the usual tables of the sign test, for n = 2000 the normal approximation.
    assert median_interval(range(1, n + 1)) == (rank, n + 1 - rank)


@pytest.mark.parametrize("n", [6, 7, 25, 101])
def test_the_interval_covers_as_promised_and_no_narrower_one_does(n: int) -> None:
    k = int(median_interval(range(1, n + 1))[0])

    def coverage(rank: int) -> float:
        return 1 - 2 * sum(math.comb(n, i) for i in range(rank)) / 2**n

    assert coverage(k) >= 0.95 > coverage(k + 1)


def test_relative_halfwidth() -> None:
    assert relative_halfwidth([1.0] * 5) == math.inf  # too few to know
    assert relative_halfwidth([1.0] * 6) == 0.0
    assert relative_halfwidth([0.0] * 6) == 0.0
    assert relative_halfwidth([0.0] * 5 + [1.0]) == math.inf
    assert relative_halfwidth([9.0, 10.0, 10.0, 10.0, 10.0, 11.0]) == pytest.approx(0.1)


def test_no_values_have_no_summary() -> None:
    with pytest.raises(ValueError, match="measure at least one"):
        quartiles([])


# ---------------------------------------------------------------------- intervals

VALUES = st.lists(st.floats(0.1, 10), min_size=2, max_size=9)


@given(VALUES)
def test_the_interval_of_a_mean_is_scipys(values: list[float]) -> None:
    found = mean_interval(values)
    spread = stats.sem(values)
    if spread > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, sum(values) / len(values), spread)
        assert (found.low, found.high) == pytest.approx((low, high))
    assert found.low <= found.mean <= found.high
    assert found.count == len(values)
    assert found.halfwidth == pytest.approx((found.high - found.low) / 2)


@given(VALUES)
def test_one_more_run_is_less_certain_than_the_mean(values: list[float]) -> None:
    mean, one = mean_interval(values), prediction_interval(values)
    assert one.mean == mean.mean
    assert one.halfwidth == pytest.approx(mean.halfwidth * math.sqrt(len(values) + 1))


def test_pairs_take_out_what_they_share() -> None:
    base = [1.0, 5.0, 9.0]
    found = paired_difference([1.1, 5.12, 9.09], base)
    assert found.mean == pytest.approx(0.31 / 3)
    assert found.excludes(0)
    assert not mean_interval(base).excludes(3)


def test_a_ratio_is_formed_on_logarithms() -> None:
    found = paired_ratio([2.0, 8.0], [1.0, 1.0])
    assert found.mean == pytest.approx(4)
    assert found.low * found.high == pytest.approx(16)
    twice = paired_ratio([1.0, 1.0], [2.0, 8.0])
    assert twice.mean == pytest.approx(1 / found.mean)


def test_one_value_has_no_interval() -> None:
    for found in (mean_interval([3.0]), prediction_interval([3.0]), paired_ratio([6.0], [2.0])):
        assert found.mean == pytest.approx(3)
        assert found.high == math.inf
        assert not found.excludes(0)


def test_pairs_without_difference_are_no_noise() -> None:
    found = paired_difference([1.0, 2.0], [1.0, 2.0])
    assert (found.low, found.high, found.excludes(0)) == (0, 0, False)


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])
    with pytest.raises(ValueError, match="2 values have no pairs among 1"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="positive"):
        paired_ratio([0.0], [1.0])

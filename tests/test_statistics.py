"""Statistics of samples, against numpy, published tables and binomial coverage."""

import math
import random
import statistics as stdlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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

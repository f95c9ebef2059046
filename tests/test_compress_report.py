"""Statistics of pairs, and the tables of a compression run."""

import math
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from svdbench.reporting.claims import Answer, Claims, PublishedNumber, beside
from svdbench.reporting.render import rich_table
from svdbench.statistics.intervals import (
    Interval,
    mean_interval,
    paired_difference,
    paired_ratio,
    prediction_interval,
)

VALUES = st.lists(st.floats(0.1, 10), min_size=2, max_size=9)


# --------------------------------------------------------------------- statistics


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


# ---------------------------------------------------------------------- agreement


@pytest.mark.parametrize(
    ("ours", "published", "tolerance", "agrees"),
    [
        (Interval(0.9, 0.88, 0.92, 5), 0.91, 0.0, True),
        (Interval(0.9, 0.88, 0.92, 5), 0.93, 0.0, False),
        (Interval(0.9, 0.88, 0.92, 5), 0.93, 0.01, True),
        (Interval(0.9, -math.inf, math.inf, 1), 0.93, 0.01, None),
        (Interval(0.9, -math.inf, math.inf, 1), 0.905, 0.01, None),
        (Interval(0.63, -1.37, 2.63, 2), 0.7, 0.02, None),  # an interval that admits everything
        (Interval(0.63, -1.37, 2.63, 2), 2.9, 0.02, False),
    ],
)
def test_a_published_number_agrees_within_our_interval(
    ours: Interval, published: float, tolerance: float, agrees: bool | None
) -> None:
    number = PublishedNumber("accuracy", published, tolerance, {})
    assert beside("accuracy", ours, number, ".1%").shown is agrees


def other(what: str, ours: Interval, value: float, form: str = ".3g", **settings: str) -> Answer:
    return beside(what, ours, PublishedNumber("", value, 0.0, {}), form, settings)


def test_a_number_of_other_settings_is_not_compared() -> None:
    answer = other("accuracy", Interval(0.9, 0.88, 0.92, 5), 0.91, ".1%", epochs="1 (10)")
    assert answer.shown is None
    assert Claims([answer]).table().rows[0].cells[-1].text == "other settings"
    assert any("epochs 1 (10)" in line for line in Claims([answer]).meanings())


@given(st.floats(-2, 2))
def test_the_usual_reach(value: float) -> None:
    ours = Interval(value, value, value, 5)
    assert other("accuracy", ours, value, ".1%").claim.reach == 0.03
    assert other("loss", ours, value).claim.reach == 0.2 * abs(value)


def test_the_table_has_ours_theirs_and_the_answer() -> None:
    answers = [
        other("accuracy", Interval(0.9, 0.88, 0.92, 5), 0.91, ".1%"),
        other("time", Interval(1.02, 0.99, 1.05, 5), 1.91, ".2f"),
        other("loss", Interval(0.5, -math.inf, math.inf, 1), 0.3),
    ]
    console = Console(width=100, record=True, file=StringIO())
    console.print(rich_table(Claims(answers).table()))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "accuracy 90.0 % 91.0 % 88.0 … 92.0 % yes" in lines
    assert "time 1.02 1.91 0.99 … 1.05 no" in lines
    assert "loss 0.5 0.3 – can't tell" in lines

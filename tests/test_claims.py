"""Published numbers beside ours: the rule, and the table."""

import math
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from svdbench.reporting.claims import Answer, Claims, PublishedNumber, beside
from svdbench.reporting.render import rich_table
from svdbench.statistics.intervals import Interval


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
    assert "accuracy 90.0% 91.0% 88.0–92.0% yes" in lines
    assert "time 1.02 1.91 0.99–1.05 no" in lines
    assert "loss 0.5 0.3 – can't tell" in lines

"""``svdbench accelerate --when``: where a layer of low rank is faster than a dense one."""

from pathlib import Path

import pytest
from command import EVERY_RUN, assert_mistake, run, table

import svdbench
from svdbench.jobs.accelerate.costs import alpha_rank
from svdbench.jobs.accelerate_when.report import (
    LayerSpeed,
    impossible,
    of_ceilings,
    pays_from,
    where_it_pays,
)
from svdbench.jobs.accelerate_when.run import LowRankShare
from svdbench.statistics.intervals import Interval
from svdbench.timings.layers import DenseLinear, LayerProblem

pytestmark = pytest.mark.usefixtures("elsewhere", "known_rates", "one_thread")
TINY = ["accelerate", "--when", "--widths", "8,16", "--rows", "4", "--alphas", "0.5,0.25"]
TINY += ["--budget", "0.1", "--name", "r"]
FOLDER = Path("results/accelerate-when/r")


def test_writes_what_it_promises() -> None:
    answer = run(TINY)
    assert (answer.code, answer.err) == (0, "")
    assert {path.name for path in FOLDER.iterdir()} == {
        *EVERY_RUN,
        *("samples.csv", "summary.csv", "when.png"),
    }
    rows = table(FOLDER / "summary.csv")
    assert {row["status"] for row in rows} == {"ok"}, [row["reason"] for row in rows]
    assert {
        (row["method"], row["d"], row["alpha"], row["rank"], row["ceiling"]) for row in rows
    } == {
        ("linear", "8", "", "", ""),
        ("linear", "16", "", "", ""),
        ("α 0.5", "8", "0.5", "2", "2.0"),
        ("α 0.5", "16", "0.5", "4", "2.0"),
        ("α 0.25", "8", "0.25", "1", "4.0"),
        ("α 0.25", "16", "0.25", "2", "4.0"),
    }
    for words in ("speed of one layer, × nn.Linear", "α 0.25 pays"):
        assert words in answer.out
    wrong = run(["accelerate", "--resume", str(FOLDER)])
    assert wrong.code == 2
    assert f"use svdbench accelerate --when --resume {FOLDER}" in wrong.err
    again = run(["accelerate", "--when", "--resume", str(FOLDER)])
    assert "already complete: 2 of 2" in again.out
    result = svdbench.run("accelerate", when=True, widths=[8], rows=[4], budget=0.05)
    assert result.job == "accelerate-when"


@pytest.mark.parametrize("alpha", [1, 0.5, 0.3, 0.01])
def test_ranks_are_those_of_the_arms(alpha: float) -> None:
    for d in (8, 100, 257):
        layer, problem = LowRankShare(alpha), LayerProblem(d=d, n=d, m=3)
        assert layer.rank_of(d) == alpha_rank(alpha, d, d)
        dense, own = (each.flops(problem).step for each in (DenseLinear(), layer))
        assert dense / own == pytest.approx(layer.rank_of(d) and d / (2 * layer.rank_of(d)))


def speed(width: int, low: float, high: float) -> LayerSpeed:
    return LayerSpeed(0.5, width, 32, Interval((low * high) ** 0.5, low, high, 9), 2.0)


def test_pays_from_the_width_after_which_all_are_faster() -> None:
    few = [speed(64, 1.1, 1.2), speed(128, 0.9, 1.2), speed(256, 1.01, 1.3), speed(512, 1.7, 1.8)]
    assert pays_from(few) == 256
    assert pays_from(few[:2]) is None
    assert list(where_it_pays(few)) == ["α 0.5 pays from width 256 with 32 rows"]
    assert list(where_it_pays(few[:2])) == ["α 0.5 pays at no width up to 128 with 32 rows"]


def test_says_what_is_impossible() -> None:
    (line,) = impossible([speed(64, 1.1, 1.2), speed(512, 2.5, 3.0)])
    assert "α 0.5 at width 512, 32 rows: other processes" in line
    assert list(impossible([speed(64, 1.1, 2.9)])) == []
    assert list(of_ceilings([speed(256, 1.6, 1.6), speed(512, 2.5, 3.0)])) == [
        "α 0.5, widths of 256 and more: at least 80% of the ceiling (width 256, 32 rows)"
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["accelerate", "--widths", "8"], "--widths needs --when: add it"),
        (["accelerate", "--quick"], "--quick needs --when"),
        (["accelerate", "--when", "--phis", "0.5"], "--phis is not for svdbench accelerate --when"),
        (["accelerate", "mnist", "--when"], "svdbench accelerate --when takes no 'mnist'"),
        (["accelerate", "--when", "--alphas", "2"], "give numbers above 0 and at most 1"),
    ],
)
def test_refuses(words: list[str], says: str) -> None:
    assert_mistake(run(words), says)

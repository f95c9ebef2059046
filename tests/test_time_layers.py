"""``svdbench time-layers``: layers in place of ``nn.Linear``, timed side by side."""

from pathlib import Path
from typing import Any

import pytest
import torch
from command import EVERY_RUN, assert_mistake, run, table

import svdbench
from svdbench.jobs.time_layers.layers import Layer, LayerProblem
from svdbench.jobs.time_layers.report import paired
from svdbench.members import LAYERS

pytestmark = pytest.mark.usefixtures("elsewhere", "known_rates", "one_thread")
NAMES = LAYERS.names()
TINY = ["time-layers", "--width", "6,8", "--batch", "4", "--budget", "0.1", "--name", "r"]


def made(name: str, d: int = 8) -> tuple[Layer, torch.Tensor]:
    """A layer from an orthogonal weight, and that weight, in float64."""
    layer: Layer = LAYERS.load(name)
    W = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64)).Q
    parameters = layer.parameter(W, torch.zeros(d, dtype=torch.float64))
    layer.prepare(*parameters, W)
    return layer, W


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_starts_as_the_same_map(name: str) -> None:
    layer, W = made(name)
    found = layer.module(torch.eye(8, dtype=torch.float64)).T
    if name == "low_rank_linear":
        assert torch.linalg.matrix_rank(found) == 1
    else:
        torch.testing.assert_close(found, W)


@pytest.mark.parametrize("name", NAMES)
def test_counts_operations(name: str) -> None:
    layer = LAYERS.load(name)
    problem = LayerProblem(d=64, n=64, m=16)
    dense = 6 * 16 * 64**2
    low_rank = name == "low_rank_linear"
    # No layer is faster than its floor, and one of low rank has another than the rest.
    assert layer.floor(problem).step == (dense / 4 if low_rank else dense)
    assert (layer.flops(problem).step < dense) == low_rank
    assert layer.flops(problem).step >= layer.floor(problem).step


@pytest.mark.parametrize("update", ["none", "adam"])
def test_writes_what_it_promises(update: str) -> None:
    answer = run([*TINY, "--optimizer", update])
    assert (answer.code, answer.err) == (0, "")
    folder = Path("results/time-layers/r")
    assert {path.name for path in folder.iterdir()} == {
        *EVERY_RUN,
        *("samples.csv", "summary.csv", "step_time.png", "ratio_to_linear.png"),
    }
    rows = table(folder / "summary.csv")
    assert {row["status"] for row in rows} == {"ok"}, [row["reason"] for row in rows]
    assert {row["method"] for row in rows} == set(NAMES)
    assert {(row["d"], row["m"], row["optimizer"]) for row in rows} == {
        ("6", "4", update),
        ("8", "4", update),
    }
    linear = next(row for row in rows if (row["method"], row["d"]) == ("linear", "8"))
    assert linear["n_params"] == "72"
    assert int(linear["peak_bytes"]) > 0
    assert "× nn.Linear" in answer.out
    assert ("and Adam" in answer.out) == (update == "adam")


def test_ratios_are_paired_by_round() -> None:
    import pandas as pd

    samples = pd.DataFrame(
        {
            "d": 8,
            "m": 4,
            "method": ["linear"] * 3 + ["orthogonal"] * 3,
            "round": [0, 1, 2] * 2,
            "step_s": [1.0, 10.0, 2.0, 3.0, 30.0, 6.0],  # three times as long in every round
        }
    )
    timed = pd.DataFrame({"method": ["linear", "orthogonal"], "d": 8, "m": 4})
    (value,) = paired(samples, timed)
    assert (value.value, value.low, value.high) == pytest.approx((3, 3, 3))
    assert value.of == {"method": "orthogonal", "d": 8, "m": 4}
    assert paired(samples, timed[timed["method"] == "orthogonal"]) == []


def test_a_finished_run_is_left_as_it_is_and_resumes() -> None:
    assert run([*TINY, "--methods", "linear,orthogonal"]).code == 0
    before = Path("results/time-layers/r/samples.csv").read_bytes()
    answer = run(["time-layers", "--resume", "results/time-layers/r"])
    assert (answer.code, answer.err) == (0, "")
    assert "already complete: 2 of 2 parts done" in answer.out
    assert Path("results/time-layers/r/samples.csv").read_bytes() == before


def test_from_python() -> None:
    options: dict[str, Any] = {"width": [6], "batch": [4], "methods": ["linear", "svd_linear"]}
    found = svdbench.run("time-layers", **options, budget=0.05)
    assert set(found.summary["method"]) == {"linear", "svd_linear"}
    assert found.report.headline.startswith(
        "width 6, batch 4, time of a step over nn.Linear's: svd_linear "
    )
    assert set(found.figures) == {"step_time", "ratio_to_linear"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--width", "1"], "each must be 2 or more"),
        (["--methods", "lineer"], "did you mean 'linear'"),
        (["--optimizer", "sdg"], "sdg"),
        (["layer.low_rank_linear.rank=0"], "give a whole number of at least 1, or null"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str) -> None:
    assert_mistake(run([*TINY, *arguments]), message)

"""``make bench-lowrank``: what it concludes from the tables that its runs leave."""

import pandas as pd
import pytest
from promises.low_rank import (
    RANDOM,
    acceleration_figures,
    driver_figures,
    factors_figures,
    main,
)
from promises.training_steps import shares, step_figures

from svdbench.errors import UserError


def driver(method, time_s, over_optimal, m=2048, n=2048, k=256):
    good = over_optimal <= 1.01
    cell = {"m": m, "n": n, "k": k, "method": method, "time_s": time_s}
    return cell | {"over_optimal": over_optimal, "good": good}


def trained(method, phi, accuracies, speedup=1.0):
    return [
        {"method": method, "phi": phi, "seed": seed, "accuracy": accuracy, "speedup": speedup}
        for seed, accuracy in enumerate(accuracies)
    ]


def test_drivers_are_judged_by_time_and_error():
    judged = pd.DataFrame(
        [
            driver("randomized", 0.2, 1.005),
            driver("auto", 0.21, 1.005),
            driver("torch_svd", 2.2, 1.0),
            driver("torch_svd_lowrank", 0.1, 1.04),  # fast, but not comparable
            driver("auto", 0.3, 1.0, m=15, n=784, k=10),
            driver("torch_svd", 0.2, 1.0, m=15, n=784, k=10),
        ]
    )
    figures = driver_figures(judged)
    assert [figure.measured for figure in figures] == pytest.approx([1.005, 11, 2, 1.5, 1.05])
    assert [figure.kept for figure in figures] == [True, True, False, False, True]


def test_accuracy_is_compared_seed_by_seed():
    rows = trained("dnn", 1.0, [0.98, 0.97]) + trained("svd_dnn", 0.1, [0.976, 0.972], 1.7)
    speed, lost = acceleration_figures(pd.DataFrame(rows), "α ½", 1.6)
    assert (speed.measured, speed.kept) == (1.7, True)
    assert lost.measured == pytest.approx(-0.001)
    assert lost.kept


def test_low_rank_is_compared_with_the_best_smaller_network():
    losses = {"DNN": 0.11, RANDOM: 0.08, "DNN a": 0.078, "DNN b": 0.09}
    methods = ["dnn", "factors", "narrow_dnn", "narrow_dnn"]
    rows = [
        {
            **{"seed": seed, "arm": arm, "method": method, "loss": loss + seed / 1e6},
            **{"n_params": 40 if arm == RANDOM else 100, "multiplications": 7.0},
        }
        for seed in range(2)
        for (arm, loss), method in zip(losses.items(), methods, strict=True)
    ]
    figures = factors_figures(pd.DataFrame(rows))
    assert [figure.measured for figure in figures] == pytest.approx([0.002, 0.4, 1.0])
    assert [figure.kept for figure in figures] == [True, True, False]
    assert "− DNN a's" in figures[0].what


def test_a_step_is_judged_by_its_ceiling():
    [figure] = step_figures("one", {"DNN": 0.3, "own": 0.2}, {"DNN": 4e6, "own": 2e6})
    assert figure.measured == pytest.approx(0.75)
    assert not figure.kept
    assert "speed 1.50 of 2.00" in figure.what


def test_the_seconds_of_operators_are_those_of_parts():
    times = [("aten::mm", 1.0), ("aten::view", 0.5), ("aten::addmm", 2.0), ("aten::cat", 0.5)]
    found = shares(times)
    assert [row["part"] for row in found] == ["products", "rest", "copies"]
    assert [row["share"] for row in found] == ["0.750", "0.125", "0.125"]


def test_a_part_that_there_is_none_of_is_named():
    with pytest.raises(UserError, match="'driver': choose from drivers, "):
        main(["driver"])

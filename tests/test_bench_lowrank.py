"""``make bench-lowrank``: what it concludes from the tables that its runs leave."""

import pandas as pd
import pytest
from promises.low_rank import acceleration_figures, driver_figures, main

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


def test_a_part_that_there_is_none_of_is_named():
    with pytest.raises(UserError, match="'driver': choose from drivers, "):
        main(["driver"])

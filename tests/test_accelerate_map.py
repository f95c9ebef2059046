"""Loss over α and φ of ``svdbench accelerate``, and what it says of the usual advice."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from svdbench.jobs.accelerate.map import advice, draw_map, judged, map_of, map_tables
from svdbench.statistics.intervals import Interval

ALPHAS, PHIS = (0.5, 0.25), (0.0, 0.1, 0.2, 0.5)


def summary(loss: Callable[[float, float], float], seeds: int = 5) -> pd.DataFrame:
    """Rows of a run whose losses, less the dense network's, are a function of α and φ."""
    random = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        common = {"seed": seed, "status": "ok"}
        dense = 0.06 + random.normal(0, 0.01)
        whole = {"alpha": None, "phi": 1.0, "loss": dense, "elapsed_s": 20.0}
        rows.append({"arm": "DNN", "method": "dnn", **common, **whole})
        for alpha in ALPHAS:
            for phi in PHIS:
                own = dense + loss(alpha, phi) + random.normal(0, 1e-5)
                time = 20 * (phi + (1 - phi) * alpha) + random.normal(0, 0.01)
                arm = {"arm": f"SVD-DNN α {alpha:g}, φ {100 * phi:g} %", "method": "svd_dnn"}
                numbers = {"alpha": alpha, "phi": phi, "loss": own, "elapsed_s": time}
                rows.append({**arm, **common, **numbers})
    return pd.DataFrame(rows)


def says(loss: Callable[[float, float], float], seeds: int = 5) -> list[str]:
    found = map_of(summary(loss, seeds))
    assert found is not None
    return [line.partition(": ")[2].partition(" (")[0] for line in advice(found)]


def test_advice_is_judged_by_the_losses() -> None:
    """A line each: α = ½; α = ¼; seconds."""
    assert says(lambda a, p: abs(p - 0.15) if a == 0.5 else -p) == [
        "yes",
        "more dense steps always help: yes",
        "yes",
    ]
    assert says(lambda a, p: -p if a == 0.5 else abs(p - 0.15)) == [
        "no",
        "more dense steps always help: no",
        "yes",
    ]
    assert says(lambda a, p: 0.0)[:2] == ["open", "more dense steps always help: open"]
    assert says(lambda a, p: -p, seeds=1) == ["open", "more dense steps always help: open", "open"]


def test_a_bound_is_shown_by_all_and_refuted_by_one() -> None:
    below, above, open_ = Interval(-2, -3, -1, 5), Interval(2, 1, 3, 5), Interval(0, -1, 1, 5)
    assert judged([below, below]) is True
    assert judged([below, above, open_]) is False
    assert judged([below, open_]) is None


def test_differences_are_paired_with_the_dense_network() -> None:
    found = map_of(summary(lambda a, p: a - p))
    assert found is not None
    interval = found.against_dense(0.5, 0.1)
    assert interval.mean == pytest.approx(0.4, abs=1e-4)
    assert interval.halfwidth < 1e-3  # though seeds differ by 0.01
    losses, times = map_tables(found)
    assert len(losses.rows) == len(ALPHAS)
    assert len(times.rows) == len(ALPHAS) + 1
    (axes, _) = draw_map(found, "title").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1: dense", "0.5", "0.25"]
    assert len({text.get_text() for text in axes.texts}) > len(ALPHAS) * len(PHIS)


def test_needs_every_alpha_with_every_phi() -> None:
    rows = summary(lambda a, p: 0.0)
    assert map_of(rows[rows["alpha"] != 0.25]) is None
    assert map_of(rows[~((rows["alpha"] == 0.25) & (rows["phi"] == 0.5))]) is None
    failed = rows["seed"].eq(3) & rows["phi"].eq(0.5)
    found = map_of(rows.assign(status=rows["status"].mask(failed, "nan")))
    assert found is not None
    assert len(found.dense_losses) == 4

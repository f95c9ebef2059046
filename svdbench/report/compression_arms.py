"""The arms of a ``compress`` run beside stock: paired over seeds, with intervals."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from svdbench.measure.paired import Interval, paired_difference, paired_ratio

if TYPE_CHECKING:
    import pandas as pd

STOCK = "stock"


@dataclass(frozen=True)
class Compared:
    """An arm's means over seeds at the last epoch, and its differences to stock.

    Attributes:
        name: of the arm, ``method rank``.
        method, rank: of the arm; the rank of stock is NaN.
        error, loss: of the test set, the error a fraction.
        epoch_s: a median epoch.
        added: time of compressing over that of the rest.
        error_difference, loss_difference: this arm's less stock's.
        time_ratio: this arm's epoch over stock's: for each seed the median over epochs.
    """

    name: str
    method: str
    rank: float
    error: float
    loss: float
    epoch_s: float
    added: float
    error_difference: Interval
    loss_difference: Interval
    time_ratio: Interval


def ended(samples: "pd.DataFrame", summary: "pd.DataFrame", base: str = STOCK) -> "pd.DataFrame":
    """The epochs to compare: of whole seeds, if there are any, without arms that failed.

    Of a seed that was stopped, those that all its arms have.
    """
    status = summary.set_index(["seed", "arm"])["status"].to_dict()
    known = [
        status.get(key, "interrupted") in ("ok", "timeout", "interrupted")
        for key in zip(samples["seed"], samples["arm"], strict=True)
    ]
    rows = samples[known]
    whole = {seed for (seed, arm), how in status.items() if arm == base and how == "ok"}
    if whole:
        return rows[rows["seed"].isin(whole)]
    last = rows.groupby(["seed", "arm"])["epoch"].max().groupby("seed").min()
    return rows[rows["epoch"] <= rows["seed"].map(last)]


def compare(run: "pd.DataFrame") -> list[Compared]:
    """All arms, stock first, then in the order of the run; none without a seed of stock's."""
    stock = run[run["arm"] == STOCK]
    found = []
    for name in dict.fromkeys([STOCK, *run["arm"]]):
        rows = run[run["arm"] == name]
        seeds = sorted(set(rows["seed"]) & set(stock["seed"]))
        if seeds:
            found.append(_compared(str(name), rows, stock, seeds))
    return found


def _compared(name: str, rows: "pd.DataFrame", stock: "pd.DataFrame", seeds: list[int]) -> Compared:
    own, base = (_last(table).loc[seeds] for table in (rows, stock))
    ratios = [_pace(rows, seed) / _pace(stock, seed) for seed in seeds]
    medians = [float(np.median(ratio)) for ratio in ratios]
    training_s = rows["epoch_s"].sum() - rows["decompose_s"].sum()
    return Compared(
        name=name,
        method=rows["method"].iloc[0],
        rank=rows["rank"].iloc[0],
        error=1 - own["accuracy"].mean(),
        loss=own["loss"].mean(),
        epoch_s=rows["epoch_s"].median(),
        added=rows["decompose_s"].sum() / training_s,
        error_difference=paired_difference(list(-own["accuracy"]), list(-base["accuracy"])),
        loss_difference=paired_difference(list(own["loss"]), list(base["loss"])),
        time_ratio=paired_ratio(medians, [1.0] * len(medians)),
    )


def _last(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The last epoch of each seed."""
    return rows.sort_values("epoch").groupby("seed").tail(1).set_index("seed")


def _pace(rows: "pd.DataFrame", seed: int) -> "np.ndarray":
    """Seconds of each epoch of one seed."""
    return rows[rows["seed"] == seed].sort_values("epoch")["epoch_s"].to_numpy(float)

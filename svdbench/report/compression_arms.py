"""The arms of a ``compress`` run beside stock: paired over seeds, with intervals."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from svdbench.report.side_by_side import arms_of, last_epochs
from svdbench.statistics.intervals import Interval, mean_interval, paired_difference

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
        time_ratio: the time of this arm's training over that of stock's, the mean of the seeds.
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


def compare(run: "pd.DataFrame") -> list[Compared]:
    """All arms, stock first, then in the order of the run; none without a seed of stock's."""
    stock = run[run["arm"] == STOCK]
    return [_compared(name, rows, stock, seeds) for name, rows, seeds in arms_of(run, STOCK)]


def _compared(name: str, rows: "pd.DataFrame", stock: "pd.DataFrame", seeds: list[int]) -> Compared:
    own, base = (last_epochs(table, "test").loc[seeds] for table in (rows, stock))
    times = training_times(rows) / training_times(stock)
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
        time_ratio=mean_interval(list(times.loc[seeds])),
    )


def training_times(rows: "pd.DataFrame") -> "pd.Series[float]":
    """Seconds of all epochs, for each seed."""
    return rows.groupby("seed")["epoch_s"].sum()

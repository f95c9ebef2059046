"""The arms of a ``compress`` run over all seeds: their numbers, each computed once."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pandas as pd

from svdbench.reporting.metrics import EPOCH, Metric, Values
from svdbench.reporting.words import percent, points, ratio, share, signed
from svdbench.side_by_side import report as sides
from svdbench.statistics.intervals import Interval, mean_interval, paired_difference

STOCK = "stock"
ERROR = Metric("test error", "error", "fraction", "lower", "mean over seeds", percent)
LOSS = Metric("test loss", "loss", "", "lower", "mean over seeds")
ERROR_CHANGE = Metric(
    "test error against stock",
    *("error_difference", "fraction", "lower", "mean of the seeds' differences"),
    points,
)
LOSS_CHANGE = Metric(
    "test loss against stock",
    *("loss_difference", "", "lower", "mean of the seeds' differences"),
    partial(signed, digits=2),
)
TIME = Metric("training time", "time_ratio", "× stock", "lower", "mean of the seeds' ratios", ratio)
ADDED = Metric(
    "compressing adds", "added", "fraction", "lower", "of the total times", partial(share, digits=2)
)


@dataclass(frozen=True)
class CompressedArmSummary:
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

    @cached_property
    def metrics(self) -> Values:
        """The numbers of an arm; those against stock of the others only."""
        seeds = self.error_difference.count
        of: dict[str, Any] = {"arm": self.name, "method": self.method}
        found = [
            ERROR.of(self.error, seeds=seeds, **of),
            LOSS.of(self.loss, seeds=seeds, **of),
            EPOCH.of(self.epoch_s, seeds=seeds, **of),
        ]
        if self.name != STOCK:
            of["rank"] = self.rank
            found.append(ADDED.of(self.added, seeds=seeds, **of))
            found += [
                metric.of_interval(got, seeds=seeds, **of)
                for metric, got in (
                    (ERROR_CHANGE, self.error_difference),
                    (LOSS_CHANGE, self.loss_difference),
                    (TIME, self.time_ratio),
                )
            ]
        return {value.metric: value for value in found}


def summarise_arms(epochs: pd.DataFrame) -> list[CompressedArmSummary]:
    """All arms, stock first, then in the order of the run; none without a seed of stock's."""
    stock = epochs[epochs["arm"] == STOCK]
    return [
        _summary(name, rows, stock, seeds) for name, rows, seeds in sides.arms_of(epochs, STOCK)
    ]


def _summary(
    name: str, rows: pd.DataFrame, stock: pd.DataFrame, seeds: list[int]
) -> CompressedArmSummary:
    own, base = (sides.last_epochs(table, "test").loc[seeds] for table in (rows, stock))
    times = training_times(rows) / training_times(stock)
    training_s = rows["epoch_s"].sum() - rows["decompose_s"].sum()
    return CompressedArmSummary(
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


def training_times(rows: pd.DataFrame) -> "pd.Series[float]":
    return rows.groupby("seed")["epoch_s"].sum()

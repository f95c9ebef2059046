"""The arms of an ``accelerate`` run beside the dense one: how fast, and how good."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svdbench.report.side_by_side import arms_of, last_epochs
from svdbench.statistics.intervals import (
    Interval,
    paired_difference,
)
from svdbench.statistics.summaries import summarise

if TYPE_CHECKING:
    import pandas as pd

DENSE = "DNN"


@dataclass(frozen=True)
class Arm:
    """An arm after its last epoch, over all seeds.

    Attributes:
        name, alpha, phi, ranks: what it is; NaN where it has none.
        train_loss, train_accuracy, test_accuracy: a value for each seed.
        accuracy_difference: of the test set, this arm's less the dense arm's.
        epoch_s: a median epoch after the switch.
        after: the dense arm's time over this one's, epoch by epoch after the switch: the
            median, and an interval that assumes no distribution.
        speed: the same of the whole training, with dense steps and the switch.
        ceiling: of ``speed``, if there were nothing but multiplications.
    """

    name: str
    alpha: float
    phi: float
    ranks: str
    train_loss: list[float]
    train_accuracy: list[float]
    test_accuracy: list[float]
    accuracy_difference: Interval
    epoch_s: float
    after: Interval | None
    speed: Interval | None
    ceiling: float

    @property
    def impossible(self) -> bool:
        """Whether it is faster than the multiplications can explain."""
        return self.speed is not None and self.speed.low > self.ceiling


def compare(run: "pd.DataFrame", summary: "pd.DataFrame") -> list[Arm]:
    """All arms, the dense one first; none without an epoch of it.

    Args:
        run: epochs to compare: rows of ``samples.csv``.
        summary: ``summary.csv``.
    """
    dense = run[run["arm"] == DENSE]
    ceilings = summary.groupby("arm")["ceiling"].median()
    return [
        _arm(rows, dense, seeds, float(ceilings[name])) for name, rows, seeds in arms_of(run, DENSE)
    ]


def _arm(rows: "pd.DataFrame", dense: "pd.DataFrame", seeds: list[int], ceiling: float) -> Arm:
    first = rows.iloc[0]
    train, test = last_epochs(rows, "train"), last_epochs(rows, "test")
    base = last_epochs(dense, "test")
    factored, after = _after_switch(rows, dense)
    speed = None
    if after is not None:
        share = _switch_share(rows, dense)
        speed = _through(after, lambda r: 1 / (first["phi"] + (1 - first["phi"]) / r + share))
    return Arm(
        name=str(first["arm"]),
        alpha=first["alpha"],
        phi=first["phi"],
        ranks=str(first["rank"]),
        train_loss=list(train["loss"]),
        train_accuracy=list(train["accuracy"]),
        test_accuracy=list(test.loc[seeds, "accuracy"]),
        accuracy_difference=paired_difference(
            list(test.loc[seeds, "accuracy"]), list(base.loc[seeds, "accuracy"])
        ),
        epoch_s=float((rows if factored.empty else factored)["epoch_s"].median()),
        after=after,
        speed=speed,
        ceiling=ceiling,
    )


def _after_switch(
    rows: "pd.DataFrame", dense: "pd.DataFrame"
) -> tuple["pd.DataFrame", Interval | None]:
    """The epochs wholly in factors, and how many times longer the dense arm's are."""
    own = rows[rows["split"] == "test"]
    switched = own[own["decompose_s"].notna()].set_index("seed")["epoch"]
    own = own[own["epoch"] > own["seed"].map(switched)]
    pairs = own.merge(dense[dense["split"] == "test"], on=["seed", "epoch"], suffixes=("", "_d"))
    if pairs.empty:
        return own, None
    found = summarise(list(pairs["epoch_s_d"] / pairs["epoch_s"]))
    return own, Interval(found.median, found.low, found.high, found.reps)


def _switch_share(rows: "pd.DataFrame", dense: "pd.DataFrame") -> float:
    """What the switch takes, of the time of the dense arm's whole training."""
    epochs = dense["epoch"].max()
    return float(rows["decompose_s"].median() / (epochs * dense["epoch_s"].median()))


def _through(interval: Interval, rising: Callable[[float], float]) -> Interval:
    """An interval of a function of what this one is of."""
    low = rising(interval.low) if interval.low > 0 else interval.low
    return Interval(rising(interval.mean), low, rising(interval.high), interval.count)


def values_of(arm: Arm, column: str) -> list[float]:
    """A value for each seed of what a published number may be of."""
    values: dict[str, Any] = {
        "train_loss": arm.train_loss,
        "train_accuracy": arm.train_accuracy,
        "test_accuracy": arm.test_accuracy,
    }
    return list(values[column])

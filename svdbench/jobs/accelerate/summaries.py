"""The arms of an ``accelerate`` run over all seeds: their numbers, each computed once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pandas as pd

from svdbench.reporting.metrics import EPOCH, Metric, Values
from svdbench.reporting.words import number, percent, points, ratio, signed
from svdbench.side_by_side import report as sides
from svdbench.statistics.intervals import Interval, paired_difference
from svdbench.statistics.summaries import geometric_mean_or_nan, mean_or_nan, summarise

DENSE, RIVAL = "DNN", "narrow_dnn"
_digits = partial(number, digits=4)
FINAL_LOSS = Metric("final loss", "train_loss", "", "lower", "geometric mean over seeds", _digits)
LOSS = Metric("test loss", "test_loss", "", "lower", "mean over seeds", _digits)
LOSS_DIFFERENCE = Metric(
    "test loss against the DNN",
    *("loss_difference", "", "lower", "mean of the seeds' differences", signed),
)
TRAINED = Metric(
    "training accuracy", "train_accuracy", "fraction", "higher", "mean over seeds", percent
)
DIFFERENCE = Metric(
    "test accuracy against the DNN",
    *("accuracy_difference", "fraction", "higher", "mean of the seeds' differences"),
    points,
)
SWITCHED = Metric(
    "speed of the epochs in factors",
    *("switched", "× DNN", "higher", "median of pairs of epochs, over seeds"),
    ratio,
)
SPEED = Metric(
    "training speed",
    *("speed", "× DNN", "higher", "median of pairs of epochs, over seeds, with the switch"),
    ratio,
)
CEILING = Metric("ceiling", "ceiling", "× DNN", "higher", "count of multiplications", ratio)


@dataclass(frozen=True)
class AcceleratedArmSummary:
    """An arm after its last epoch, over all seeds.

    Attributes:
        name, alpha, phi, ranks: its settings; NaN where it has none.
        train_loss, train_accuracy, test_accuracy: a value for each seed.
        test_loss: likewise.
        loss_difference: of the test set, this arm's less the dense arm's.
        accuracy_difference: likewise; None, and no accuracies, where labels are no classes.
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
    test_loss: list[float]
    loss_difference: Interval
    accuracy_difference: Interval | None
    epoch_s: float
    after: Interval | None
    speed: Interval | None
    ceiling: float

    @property
    def impossible(self) -> bool:
        """Whether it is faster than the multiplications can explain."""
        return self.speed is not None and self.speed.low > self.ceiling

    @property
    def seeds(self) -> int:
        """Those that the dense arm has, too."""
        return self.loss_difference.count

    @cached_property
    def metrics(self) -> Values:
        """The numbers of an arm; those against the dense arm of the others only.

        Without an accuracy, the test loss takes its place.
        """
        seeds = self.seeds
        of: dict[str, Any] = {"arm": self.name}
        if self.name != DENSE:
            of |= {"alpha": self.alpha, "phi": self.phi}
        scores = [(LOSS, self.test_loss)]
        difference: tuple[Metric, Interval | None] = (LOSS_DIFFERENCE, self.loss_difference)
        if self.accuracy_difference is not None:
            scores = [(TRAINED, self.train_accuracy), (sides.ACCURACY, self.test_accuracy)]
            difference = (DIFFERENCE, self.accuracy_difference)
        found = [
            FINAL_LOSS.of(geometric_mean_or_nan(self.train_loss), seeds=seeds, **of),
            *(value.of(mean_or_nan(own), seeds=seeds, **of) for value, own in scores),
            EPOCH.of(self.epoch_s, seeds=seeds, **of),
        ]
        if self.name != DENSE:
            found.append(CEILING.of(self.ceiling, seeds=seeds, **of))
            pairs = (difference, (SWITCHED, self.after), (SPEED, self.speed))
            for metric, got in pairs:
                if got is not None:
                    found.append(metric.of_interval(got, seeds=seeds, **of))
        return {value.metric: value for value in found}


def summarise_arms(epochs: pd.DataFrame, summary: pd.DataFrame) -> list[AcceleratedArmSummary]:
    """All arms but the smaller networks, the dense one first; none without an epoch of it.

    Args:
        epochs: those to compare: rows of ``samples.csv``.
        summary: ``summary.csv``.
    """
    epochs = epochs[epochs["method"] != RIVAL]
    dense = epochs[epochs["arm"] == DENSE]
    ceilings = summary.groupby("arm")["ceiling"].median()
    return [
        _summary(rows, dense, seeds, float(ceilings[name]))
        for name, rows, seeds in sides.arms_of(epochs, DENSE)
    ]


def _summary(
    rows: pd.DataFrame, dense: pd.DataFrame, seeds: list[int], ceiling: float
) -> AcceleratedArmSummary:
    first = rows.iloc[0]
    train, test = sides.last_epochs(rows, "train"), sides.last_epochs(rows, "test")
    base = sides.last_epochs(dense, "test")
    factored, after = _after_switch(rows, dense)
    speed = None
    if after is not None and first["phi"] == first["phi"]:
        share = _switch_share(rows, dense)
        speed = _through(after, lambda r: 1 / (first["phi"] + (1 - first["phi"]) / r + share))
    elif first["arm"] != DENSE:
        speed = _of_totals(rows, dense)
    return AcceleratedArmSummary(
        name=str(first["arm"]),
        alpha=first["alpha"],
        phi=first["phi"],
        ranks=str(first["rank"]),
        train_loss=list(train["loss"]),
        train_accuracy=list(train["accuracy"].dropna()),
        test_accuracy=list(test.loc[seeds, "accuracy"].dropna()),
        test_loss=list(test.loc[seeds, "loss"]),
        loss_difference=_less(test.loc[seeds, "loss"], base.loc[seeds, "loss"]),
        accuracy_difference=_less(test.loc[seeds, "accuracy"], base.loc[seeds, "accuracy"])
        if test["accuracy"].notna().all()
        else None,
        epoch_s=float((rows if factored.empty else factored)["epoch_s"].median()),
        after=after,
        speed=speed,
        ceiling=ceiling,
    )


def _less(own: pd.Series, base: pd.Series) -> Interval:
    return paired_difference(list(own), list(base))


def _after_switch(rows: pd.DataFrame, dense: pd.DataFrame) -> tuple[pd.DataFrame, Interval | None]:
    """The epochs wholly in factors, and how many times longer the dense arm's are."""
    own = rows[rows["split"] == "test"]
    switched = own[own["decompose_s"].notna()].groupby("seed")["epoch"].max()
    own = own[own["epoch"] > own["seed"].map(switched)]
    pairs = own.merge(dense[dense["split"] == "test"], on=["seed", "epoch"], suffixes=("", "_d"))
    if pairs.empty:
        return own, None
    found = summarise(list(pairs["epoch_s_d"] / pairs["epoch_s"]))
    return own, Interval(found.median, found.low, found.high, found.reps)


def _switch_share(rows: pd.DataFrame, dense: pd.DataFrame) -> float:
    """The time of the switch over that of the dense arm's whole training."""
    epochs = dense["epoch"].max()
    return float(rows["decompose_s"].median() / (epochs * dense["epoch_s"].median()))


def _of_totals(rows: pd.DataFrame, dense: pd.DataFrame) -> Interval | None:
    """The dense arm's seconds over this one's, of whole trainings: the median of the seeds."""
    own, base = (sides.last_epochs(each, "test")["elapsed_s"] for each in (rows, dense))
    ratios = (base / own).dropna()
    if ratios.empty:
        return None
    found = summarise(list(ratios))
    return Interval(found.median, found.low, found.high, found.reps)


def _through(interval: Interval, rising: Callable[[float], float]) -> Interval:
    """The interval of a rising function of a number with this interval."""
    low = rising(interval.low) if interval.low > 0 else interval.low
    return Interval(rising(interval.mean), low, rising(interval.high), interval.count)

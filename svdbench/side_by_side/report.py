"""Shared by the reports of networks trained side by side: epochs by arm, noise, and lines.

The arm that all others are compared with is the ``base``: the unchanged network.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import pandas as pd

from svdbench.record.reader import RecordedRun
from svdbench.reporting.metrics import Metric, headline
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.words import fixed, integer, number, percent, quantity, ratio, share
from svdbench.side_by_side.config import NATS
from svdbench.statistics.intervals import CONFIDENCE, Interval

STOPPED = ("timeout", "interrupted")
ACCURACY = Metric("test accuracy", "accuracy", "fraction", "higher", "mean over seeds", percent)
TOTAL_SPEED = Metric(
    "training speed",
    "speedup",
    "× the base",
    "higher",
    "of the total times, median over seeds",
    ratio,
)
LOSS = Metric("test loss", "loss", "", "lower", "mean over seeds", lambda value: number(value, 4))
ALONE = (
    "training speed: total time of the unchanged network over that of the arm, median over seeds; "
    "the run's samples, which give the paired medians, were not kept"
)


def ended(samples: pd.DataFrame, summary: pd.DataFrame, base: str) -> pd.DataFrame:
    """The epochs to compare: of whole seeds, if there are any, without arms that failed.

    Of a seed that was stopped, those that all its arms have.
    """
    status = summary.set_index(["seed", "arm"])["status"].to_dict()
    known = [
        status.get(key, "interrupted") in ("ok", *STOPPED)
        for key in zip(samples["seed"], samples["arm"], strict=True)
    ]
    rows = samples[known]
    whole = {seed for (seed, arm), how in status.items() if arm == base and how == "ok"}
    if whole:
        return rows[rows["seed"].isin(whole)]
    last = rows.groupby(["seed", "arm"])["epoch"].max().groupby("seed").min()
    return rows[rows["epoch"] <= rows["seed"].map(last)]


def arms_of(run: pd.DataFrame, base: str) -> Iterator[tuple[str, pd.DataFrame, list[int]]]:
    """Name, epochs, and seeds in common with the base: of the base, then in the run's order."""
    seeds_of_base = set(run.loc[run["arm"] == base, "seed"])
    for name in dict.fromkeys([base, *run["arm"]]):
        rows = run[run["arm"] == name]
        seeds = sorted(set(rows["seed"]) & seeds_of_base)
        if seeds:
            yield str(name), rows, seeds


def last_epochs(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    own = rows[rows["split"] == split].sort_values("epoch")
    return own.groupby("seed").tail(1).set_index("seed").sort_index()


def failures(summary: pd.DataFrame, base: str) -> Iterator[str]:
    for row in summary.to_dict("records"):
        if row["status"] not in ("ok", *STOPPED):
            yield f"{name_of(row['arm'])}, seed {row['seed']}: {row['status']}: {row['reason']}"
        elif row["status"] != "ok" and row["arm"] == base:
            yield f"seed {row['seed']}: {row['status']} after epoch {row['epoch']}"


@dataclass(frozen=True)
class LossScale:
    """What losses are measured in, and beside what.

    Attributes:
        unit: nats, or that of a task.
        baseline: of the task, the loss of the best answer that remembers nothing; else None.
    """

    unit: str = NATS
    baseline: float | None = None

    @classmethod
    def of(cls, summary: pd.DataFrame) -> Self:
        """That of ``summary.csv``; earlier versions had nats alone."""
        units, baselines = (
            list(summary[column].dropna()) if column in summary else []
            for column in ("loss_unit", "baseline_loss")
        )
        return cls(units[0] if units else NATS, float(baselines[0]) if baselines else None)

    @property
    def words(self) -> str:
        """What the baseline is, as a sentence; empty without one."""
        if self.baseline is None:
            return ""
        loss = f"{number(self.baseline, 4)} {self.unit}"
        return f"baseline: {loss}, the loss of the best answer that remembers nothing"


@dataclass(frozen=True)
class SidesFrames:
    """The tables of a run of arms.

    Attributes:
        epochs: rows of ``samples`` of the seeds that every arm has finished.
        failed: a line for each arm that failed.
    """

    summary: pd.DataFrame
    samples: pd.DataFrame
    epochs: pd.DataFrame
    layers: pd.DataFrame | None
    failed: list[str]


def report_of(
    run: RecordedRun, title: str, base: str, whole: Callable[[SidesFrames], Report | None]
) -> Report:
    """The report of a run of arms, or what can be reported of one that stopped early.

    Args:
        base: the arm that the others are compared with.
        whole: makes the report of all tables; None where no arm has an epoch.
    """
    if not run.has("summary"):
        return Report(title)
    summary = run.frame("summary")
    failed = list(failures(summary, base))
    if not run.has("samples"):
        return of_summary(title, summary, base, failed)
    samples = run.frame("samples")
    layers = run.frame("layers") if run.has("layers") else None
    frames = SidesFrames(summary, samples, ended(samples, summary, base), layers, failed)
    return whole(frames) or Report(title, blocks=[Lines(failed)])


def of_summary(title: str, summary: pd.DataFrame, base: str, failed: Iterable[str]) -> Report:
    """The report of a run of which ``summary.csv`` alone was kept: means over the seeds."""
    rows = summary[summary["status"] == "ok"]
    found = Report(title, frames={"summary": summary})
    score = ACCURACY if rows["accuracy"].notna().any() else LOSS
    table = Table.of(title, ["arm"], [score.name, "training speed", "seeds"], note=ALONE)
    groups = []
    for arm, own in rows.groupby("arm", sort=False):
        seeds = own["seed"].nunique()
        accuracy = score.of(own[score.column].mean(), seeds=seeds, arm=arm)
        times = math.nan if arm == base else own["speedup"].median()
        speed = TOTAL_SPEED.of(times, seeds=seeds, arm=arm)
        table.add(name_of(arm), accuracy, "" if arm == base else speed, integer(seeds))
        found.metrics += [accuracy] if arm == base else [accuracy, speed]
        groups.append((name_of(arm), (accuracy, speed)))
    found.headline = headline(groups)
    found.blocks = [*([table] if table.rows else ()), Lines(failed)]
    return found


def name_of(arm: object) -> str:
    """The name of an arm as it is shown; files have a blank before the per cent."""
    return str(arm).replace(" %", "%")


def difference(
    interval: Interval, form: Callable[[float], str], half: Callable[[float], str]
) -> TableCell:
    """With its sign, the half-width, and a star where it is more than noise.

    Args:
        form: writes the difference, with its sign.
        half: writes half its interval.
    """
    mark = " *" if interval.excludes(0) else "  "
    error = "" if interval.count < 2 else f" ± {half(interval.halfwidth)}"
    return TableCell(f"{form(interval.mean)}{error}{mark}", value=interval.mean)


def points_of(value: float) -> str:
    """A fraction in points, without a sign."""
    return fixed(100 * value)


def verdict(interval: Interval, nothing: float) -> str:
    """Whether a difference or ratio is more than noise, in words."""
    return "more than noise" if interval.excludes(nothing) else "within noise"


def noise(pairs: int) -> str:
    """The meaning of the star for a number of pairs; for one, why there is none."""
    if pairs < 2:
        return "one seed has no interval: give --seeds 5 to tell a difference from noise"
    return (
        f"* more than noise: the {share(CONFIDENCE)} interval (t, {quantity(pairs, 'pair')}) "
        "does not contain 'no difference'"
    )


def about(run: pd.DataFrame, bands: str, more: str = "") -> str:
    """The title of a figure: data set, network, ``more``, and ``bands`` with the number of seeds.

    Of one seed, that it is one.
    """
    row, seeds = run.iloc[0], run["seed"].nunique()
    words = bands.format(seeds) if seeds > 1 else "one seed"
    of = f"{row['dataset']}, {row['model']}{more}"
    return f"{of}: {words}" if words else of

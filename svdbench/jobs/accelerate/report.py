"""The report of an ``accelerate`` run: scores, speed beside its ceiling, claims, curves."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from svdbench.record.reader import RecordedRun
from svdbench.reporting import plots
from svdbench.reporting.claims import Answer, Claims, PublishedNumber, beside, departures, published
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.words import known, quantity, seconds
from svdbench.side_by_side import report as sides
from svdbench.statistics.intervals import Interval, next_run_interval, paired_difference
from svdbench.statistics.summaries import geometric_mean_or_nan, mean_or_nan, summarise

DENSE = "DNN"
IMPOSSIBLE = "more than the multiplications can explain"
# Columns that may have published numbers: in words, and their format specifications.
WHAT = {
    "speed": ("speed", ".2f"),
    "train_loss": ("final loss", ".4f"),
    "train_accuracy": ("train", ".2%"),
    "test_accuracy": ("test", ".2%"),
}


def report(run: RecordedRun) -> Report:
    if not run.has("summary"):
        return Report("acceleration")
    summary = run.frame("summary")
    if not run.has("samples"):
        return Report("acceleration", sides.headline_of_summary(summary))
    samples = run.frame("samples")
    epochs = sides.ended(samples, summary, DENSE)
    arms = summarise_arms(epochs, summary)
    if not arms:
        return Report("acceleration", blocks=[Lines(sides.failures(summary, DENSE))])
    layers = run.frame("layers") if run.has("layers") else None
    speeds = [math.nan if arm.speed is None else arm.speed.mean for arm in arms]
    found = Report(
        _title(epochs),
        sides.headline(
            [
                (arm.name, mean_or_nan(arm.test_accuracy), speed)
                for arm, speed in zip(arms, speeds, strict=True)
            ]
        ),
        frames={"samples": samples, "summary": summary},
    )
    found.blocks = [
        scores_table(arms, found.title),
        speed_table(arms),
        Lines([_meaning(arms), *conclusions(arms), *sides.failures(summary, DENSE)]),
        Lines(() if layers is None else ranks_of_layers(layers)),
    ]
    if answers := answers_of(run, arms):
        found.blocks.append(Claims(answers))
    found.figures["loss"] = partial(loss, epochs, arms)
    if not all(map(math.isnan, speeds)):
        found.figures["speed"] = partial(draw_speeds, epochs, arms)
    return found


def _title(epochs: pd.DataFrame) -> str:
    row, seeds = epochs.iloc[0], epochs["seed"].nunique()
    return (
        f"{row['dataset']}, {row['model']}, {quantity(epochs['epoch'].max(), 'epoch')}, "
        f"batches of {row['batch_size']}, {quantity(seeds, 'seed')}"
    )


# ------------------------------------------------------------------------------- the arms


@dataclass(frozen=True)
class AcceleratedArmSummary:
    """An arm after its last epoch, over all seeds.

    Attributes:
        name, alpha, phi, ranks: its settings; NaN where it has none.
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


def summarise_arms(epochs: pd.DataFrame, summary: pd.DataFrame) -> list[AcceleratedArmSummary]:
    """All arms, the dense one first; none without an epoch of it.

    Args:
        epochs: those to compare: rows of ``samples.csv``.
        summary: ``summary.csv``.
    """
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
    if after is not None:
        share = _switch_share(rows, dense)
        speed = _through(after, lambda r: 1 / (first["phi"] + (1 - first["phi"]) / r + share))
    return AcceleratedArmSummary(
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


def _after_switch(rows: pd.DataFrame, dense: pd.DataFrame) -> tuple[pd.DataFrame, Interval | None]:
    """The epochs wholly in factors, and how many times longer the dense arm's are."""
    own = rows[rows["split"] == "test"]
    switched = own[own["decompose_s"].notna()].set_index("seed")["epoch"]
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


def _through(interval: Interval, rising: Callable[[float], float]) -> Interval:
    """The interval of a rising function of a number with this interval."""
    low = rising(interval.low) if interval.low > 0 else interval.low
    return Interval(rising(interval.mean), low, rising(interval.high), interval.count)


# -------------------------------------------------------------------- tables and sentences


def scores_table(arms: list[AcceleratedArmSummary], title: str) -> Table:
    """A line for each arm after its last epoch: means over seeds, of the loss the geometric one."""
    columns = ["final loss", "train", "test", f"− {DENSE}, points"]
    table = Table.of(title, ["arm"], columns)
    for arm in arms:
        table.add(
            arm.name,
            f"{geometric_mean_or_nan(arm.train_loss):.5f}",
            known(100 * mean_or_nan(arm.train_accuracy), "{:.2f} %".format),
            known(100 * mean_or_nan(arm.test_accuracy), "{:.2f} %".format),
            sides.difference(arm.accuracy_difference, 100, ".2f") if arm.name != DENSE else "",
        )
    return table


def speed_table(arms: list[AcceleratedArmSummary]) -> Table:
    """A line for each arm: the time of an epoch, and the speed beside its ceiling."""
    columns = ["epoch", "switched", "whole training", "ceiling"]
    table = Table.of(f"speed of training, × {DENSE}'s", ["arm"], columns)
    for arm in arms:
        if arm.name == DENSE:
            table.add(arm.name, seconds(arm.epoch_s), "", "", "")
            continue
        speed = _ratio(arm.speed)
        table.add(
            arm.name,
            seconds(arm.epoch_s),
            "–" if arm.after is None else f"{arm.after.mean:.2f}",
            TableCell(f"{speed} !", "bad") if arm.impossible else speed,
            f"{arm.ceiling:.2f}",
        )
    return table


def _ratio(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    known = interval.halfwidth < float("inf")
    ends = f" ({interval.low:.2f}–{interval.high:.2f})" if known else ""
    return f"{interval.mean:.2f}{ends}"


def _meaning(arms: list[AcceleratedArmSummary]) -> str:
    return (
        f"{sides.noise(arms[0].accuracy_difference.count)}; "
        "final loss: geometric mean of the seeds; train, test: mean accuracy; "
        "switched: speed of the epochs in factors, median of pairs; ceiling: speed "
        "of the whole training that the multiplications allow"
    )


def conclusions(arms: list[AcceleratedArmSummary]) -> Iterator[str]:
    for arm in arms:
        if arm.name == DENSE or arm.speed is None:
            continue
        against = f"of {arm.ceiling:.2f} × that the multiplications allow"
        if arm.impossible:
            against = f"{IMPOSSIBLE} ({arm.ceiling:.2f} ×)"
        pace = f"{arm.speed.mean:.2f} × as fast, {against}"
        yield f"{arm.name}: {pace}; {_accuracy(arm.accuracy_difference)}"


def _accuracy(found: Interval) -> str:
    if found.count < 2:
        return f"test accuracy {100 * found.mean:+.2f} points, from one seed"
    if not found.mean:
        return "the same test accuracy"
    return f"test accuracy {100 * found.mean:+.2f} points, {sides.verdict(found, 0)}"


def ranks_of_layers(layers: pd.DataFrame) -> Iterator[str]:
    """Rank and form of each weight, a line for each choice of ranks."""
    for _, rows in layers.groupby(layers["alpha"].fillna(0), sort=False):
        one = rows[rows["arm"] == rows["arm"].iloc[0]]
        words = [_layer(row) for row in one.to_dict("records")]
        alpha = one["alpha"].iloc[0]
        yield ("ranks given" if alpha != alpha else f"α {alpha:g}") + f": {'; '.join(words)}"


def _layer(row: Any) -> str:
    size = f"{row['rows']}×{row['columns']}"
    if row["form"] == "dense":
        return f"{size} dense, {row['reason']}"
    return f"{size} at rank {row['kept']:.0f}, {row['numbers']:,} of {row['dense_numbers']:,}"


# ----------------------------------------------------------------------- published numbers


def answers_of(run: RecordedRun, arms: list[AcceleratedArmSummary]) -> list[Answer]:
    """Our number for each in ``published`` that this run has too.

    Losses and accuracies were those of one run, so their interval is that of one more run.
    """
    differing = departures(run.settings)
    found = []
    for number in published(run, WHAT):
        arm = next((arm for arm in arms if _is_of(arm, number)), None)
        if arm is None:
            continue
        ours = arm.speed
        if number.column != "speed":
            values = getattr(arm, number.column)
            ours = next_run_interval(values, number.column == "train_loss")
        if ours is not None:
            what, form = WHAT[number.column]
            what = f"{arm.name.removeprefix('SVD-DNN ')}: {what}"
            found.append(beside(what, ours, number, form, differing))
    return found


def _is_of(arm: AcceleratedArmSummary, number: PublishedNumber) -> bool:
    alpha, phi = number.of.get("alpha"), number.of.get("phi")
    if phi is None:
        return arm.name == DENSE
    return arm.name != DENSE and arm.alpha == alpha and arm.phi == phi


# ----------------------------------------------------------------------------- the figures


def _styles(arms: list[AcceleratedArmSummary]) -> dict[str, dict[str, Any]]:
    """One hue for each choice of ranks, a dash for each φ."""
    others = [arm for arm in arms if arm.name != DENSE]
    ranks = list(dict.fromkeys(arm.ranks for arm in others))
    phis = sorted({arm.phi for arm in others}, reverse=True)
    return sides.styles_of(
        DENSE, {arm.name: (ranks.index(arm.ranks), phis.index(arm.phi)) for arm in others}
    )


def loss(run: pd.DataFrame, arms: list[AcceleratedArmSummary]) -> Figure:
    """Training loss over epochs and over seconds, and test accuracy over seconds."""
    figure = plots.new_figure(13.5, 4.6)
    grid = figure.subplots(1, 3)
    styles = _styles(arms)
    run = run[run["split"] == "test"].assign(error=1 - run["accuracy"])
    panels = (("epoch", "train_loss"), ("elapsed_s", "train_loss"), ("elapsed_s", "error"))
    for axes, (x, y) in zip(grid, panels, strict=True):
        for arm in arms:
            rows = run[run["arm"] == arm.name].groupby("epoch")
            across, middle = rows[x].median(), rows[y].median()
            style = styles[arm.name]
            plots.plot_line(axes, across, middle, label=arm.name, **style)
            plots.plot_band(axes, across, rows[y].min(), rows[y].max(), style["color"], 0.12)
        axes.set_xlabel({"epoch": "epoch", "elapsed_s": "seconds of training"}[x])
        axes.set_xlim(left=0)
        plots.quiet(axes)
        _scale(axes, logarithmic=bool((run[y] > 0).all()))
        plots.name_ticks(
            axes.yaxis, (lambda v: f"{100 * v:g} %") if y == "error" else "{:g}".format
        )
        title = "test error" if y == "error" else "training loss, nats"
        axes.set_title(title, loc="left", fontsize=10)
    grid[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    title = sides.about(run, "median of {} seeds, lowest to highest", _batches(run))
    plots.add_title_and_legend(figure, title)
    return figure


def _batches(run: pd.DataFrame) -> str:
    return f", batches of {run['batch_size'].iloc[0]}"


def _scale(axes: Axes, logarithmic: bool) -> None:
    """A logarithmic height, unless there are zeros, as of an error."""
    if not logarithmic:
        axes.set_ylim(bottom=0)
        return
    axes.set_yscale("log")
    plots.set_log_ticks(axes)


def draw_speeds(run: pd.DataFrame, arms: list[AcceleratedArmSummary]) -> Figure:
    """How many times faster the whole training is, under what the multiplications allow."""
    others = [arm for arm in arms if arm.speed is not None]
    styles = _styles(arms)
    figure = plots.new_figure(9.0, 1.7 + 0.55 * len(others))
    axes = figure.add_subplot()
    for y, arm in enumerate(others):
        found = arm.speed
        assert found is not None
        known = found.halfwidth < float("inf")
        ends = [[found.mean - found.low], [found.high - found.mean]] if known else None
        color = styles[arm.name]["color"]
        axes.barh(y, found.mean, height=0.55, color=color, alpha=0.85)
        axes.errorbar(found.mean, y, xerr=ends, color="black", capsize=4, lw=1.4)
        label = "ceiling: the multiplications alone" if not y else None
        axes.plot([arm.ceiling] * 2, [y - 0.38, y + 0.38], color="#c00000", lw=2.4, label=label)
        axes.text(0.03, y, f"{found.mean:.2f} ×", va="center", color="white", fontsize=9.5)
    axes.axvline(1, color="black", lw=1.5, label=f"{DENSE}, 1 ×")
    axes.set_yticks(range(len(others)), [arm.name for arm in others])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel(f"speed of the whole training, × {DENSE}'s (median of pairs, 95 % interval)")
    plots.name_ticks(axes.xaxis, "{:g} ×".format)
    plots.quiet(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    plots.add_title_and_legend(
        figure, sides.about(run, "", _batches(run)), "lower right", columns=2
    )
    return figure

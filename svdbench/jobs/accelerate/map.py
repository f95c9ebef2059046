"""Loss over α and φ: what fewer singular values cost, and what dense steps first gain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import AbstractPathEffect, withStroke

from svdbench.jobs.accelerate.summaries import DENSE
from svdbench.reporting import plots, words
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.side_by_side import report as sides
from svdbench.statistics.intervals import Interval, paired_difference

METHOD = "svd_dnn"
# The advice that is judged: for α = ½ these φ, and below more and more dense steps.
HALF, QUARTER = 0.5, 0.25
ADVISED = (0.1, 0.2)
# Seconds that differ by less are equal, and have no lines.
EQUAL = 0.1
ANSWERS = {True: "yes", False: "no", None: "open"}


@dataclass(frozen=True)
class AlphaPhiMap:
    """Test losses and seconds of SVD-DNN over α and φ, by seed, with those of the dense network.

    Attributes:
        losses, times: by (α, φ): a value for each seed that all arms have finished.
        dense_losses, dense_times: of the dense network, which is α = 1 at any φ.
    """

    losses: dict[tuple[float, float], list[float]]
    times: dict[tuple[float, float], list[float]]
    dense_losses: list[float]
    dense_times: list[float]

    @property
    def alphas(self) -> list[float]:
        """Descending."""
        return sorted({alpha for alpha, _ in self.losses}, reverse=True)

    @property
    def phis(self) -> list[float]:
        return sorted({phi for _, phi in self.losses})

    def against_dense(self, alpha: float, phi: float) -> Interval:
        """The loss less the dense network's, seed by seed."""
        return paired_difference(self.losses[alpha, phi], self.dense_losses)

    def between(self, alpha: float, phi: float, other: float) -> Interval:
        """The loss at ``phi`` less that at ``other``, seed by seed."""
        return paired_difference(self.losses[alpha, phi], self.losses[alpha, other])


def add_map(report: Report, summary: pd.DataFrame, title: str) -> None:
    """Give a report the map of a run with several α and φ, and what it says of the advice.

    Args:
        summary: ``summary.csv``.
        title: of the figure: data set, network and seeds.
    """
    if (found := map_of(summary)) is not None:
        unit = sides.LossScale.of(summary).unit
        report.blocks += [*map_tables(found, unit), Lines(advice(found, unit))]
        report.figures["map"] = partial(draw_map, found, title, unit)


def map_of(summary: pd.DataFrame) -> AlphaPhiMap | None:
    """The map of a run; None without two α and two φ, each with each.

    Args:
        summary: ``summary.csv``; rows that failed are left out, with their seeds.
    """
    dense = summary[summary["arm"] == DENSE].set_index("seed")
    own = summary[(summary["method"] == METHOD) & summary["alpha"].notna()]
    own = own[own["alpha"] < 1]
    groups = {
        (float(alpha), float(phi)): rows.set_index("seed")
        for (alpha, phi), rows in own.groupby(["alpha", "phi"])
    }
    alphas, phis = {alpha for alpha, _ in groups}, {phi for _, phi in groups}
    if len(alphas) < 2 or len(phis) < 2 or len(groups) < len(alphas) * len(phis):
        return None
    frames = [frame[(frame["status"] == "ok") & frame["loss"].notna()] for frame in groups.values()]
    dense = dense[dense["status"] == "ok"]
    seeds = sorted(set(dense.index).intersection(*(frame.index for frame in frames)))
    if not seeds:
        return None
    # Process seconds, where the run has them: other processes disturb them least.
    spent = "used_s" if "used_s" in summary and summary["used_s"].notna().all() else "elapsed_s"
    return AlphaPhiMap(
        {key: list(frame.loc[seeds, "loss"]) for key, frame in groups.items()},
        {key: list(frame.loc[seeds, spent]) for key, frame in groups.items()},
        list(dense.loc[seeds, "loss"]),
        list(dense.loc[seeds, spent]),
    )


def map_tables(found: AlphaPhiMap, unit: str = sides.NATS) -> list[Table]:
    """A line for each α: the loss less the dense network's at each φ; and the seconds."""
    note = (
        f"less the dense network's {words.number(mean(found.dense_losses), 4)} {unit}, with half "
        f"its 95% interval; {sides.noise(len(found.dense_losses))}"
    )
    columns = [f"φ {words.percent(phi, 0)}" for phi in found.phis]
    losses = Table.of("test loss over α and φ", ["α"], columns, note=note)
    times = Table.of("seconds of training", ["α"], columns)
    for alpha in found.alphas:
        cells = (_cell(found.against_dense(alpha, phi)) for phi in found.phis)
        losses.add(words.setting(alpha), *cells)
        each = (mean(found.times[alpha, phi]) for phi in found.phis)
        times.add(words.setting(alpha), *(TableCell.number(value, words.seconds) for value in each))
    times.add(
        "1: dense", *[TableCell.number(mean(found.dense_times), words.seconds)] * len(found.phis)
    )
    return [losses, times]


def _cell(interval: Interval) -> TableCell:
    return sides.difference(interval, lambda x: words.signed(x, 2), lambda x: words.number(x, 2))


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


# ------------------------------------------------------------------------------ the advice


def advice(found: AlphaPhiMap, unit: str = sides.NATS) -> Iterator[str]:
    """What this run says of the usual advice, a line for each α that it is about."""
    if HALF in found.alphas and set(ADVISED) & set(found.phis):
        yield f"α 0.5 is best with φ of 10 to 20%: {_half(found, unit)}"
    few = [alpha for alpha in found.alphas if alpha <= QUARTER]
    for alpha in few:
        helps = _more_helps(found, alpha, unit)
        yield f"α {words.setting(alpha)}: more dense steps always help: {helps}"
    if few:
        yield f"more dense steps cost seconds: {_costs(found)}"


def judged(claims: Sequence[Interval], at_most: float = 0.0) -> bool | None:
    """Whether all of several differences are below a bound, by their intervals.

    True if every interval lies below it, False if one lies above, None if neither.
    """
    if any(one.low > at_most for one in claims):
        return False
    return True if all(one.high < at_most for one in claims) else None


def _half(found: AlphaPhiMap, unit: str) -> str:
    advised = [phi for phi in found.phis if ADVISED[0] <= phi <= ADVISED[1]]
    best = min(advised, key=lambda phi: mean(found.losses[HALF, phi]))
    others = [phi for phi in found.phis if phi not in advised]
    pairs = {phi: found.between(HALF, best, phi) for phi in others}
    answer = judged(list(pairs.values()))
    worst = max(pairs, key=lambda phi: pairs[phi].mean, default=None)
    if worst is None:
        return "open, as there are no others"
    return (
        f"{ANSWERS[answer]} (φ {words.percent(best, 0)} less φ {words.percent(worst, 0)}: "
        f"{_difference(pairs[worst])} {unit})"
    )


def _more_helps(found: AlphaPhiMap, alpha: float, unit: str) -> str:
    steps = {(more, less): found.between(alpha, more, less) for less, more in pairwise(found.phis)}
    answer = judged(list(steps.values()))
    (more, less), worst = max(steps.items(), key=lambda item: item[1].mean)
    return (
        f"{ANSWERS[answer]} (least from φ {words.percent(less, 0)} to {words.percent(more, 0)}: "
        f"{_difference(worst)} {unit})"
    )


def _costs(found: AlphaPhiMap) -> str:
    first, last = found.phis[0], found.phis[-1]
    few = [alpha for alpha in found.alphas if alpha <= QUARTER]
    saved = [
        paired_difference(found.times[alpha, first], found.times[alpha, last]) for alpha in few
    ]
    longer = mean([mean(found.times[a, last]) / mean(found.times[a, first]) for a in few])
    return (
        f"{ANSWERS[judged(saved)]} (φ {words.percent(last, 0)} takes {words.ratio(longer)} the "
        f"time of φ {words.percent(first, 0)})"
    )


def _difference(interval: Interval) -> str:
    half = words.plus_minus(interval.halfwidth, lambda x: words.number(x, 2))
    return f"{words.signed(interval.mean, 2)}{half}"


# ------------------------------------------------------------------------------ the figure


def draw_map(found: AlphaPhiMap, title: str, unit: str = sides.NATS) -> Figure:
    """The loss less the dense network's over α and φ, with lines of equal seconds.

    Args:
        title: data set, network and seeds.
    """
    alphas, phis = [1.0, *found.alphas], found.phis
    losses, times = np.zeros((len(alphas), len(phis))), np.empty((len(alphas), len(phis)))
    times[0] = mean(found.dense_times)
    for i, alpha in enumerate(found.alphas, 1):
        for j, phi in enumerate(phis):
            losses[i, j] = found.against_dense(alpha, phi).mean
            times[i, j] = mean(found.times[alpha, phi])
    figure = plots.new_figure(2.6 + 1.1 * len(phis), 1.7 + 0.62 * len(alphas))
    axes = figure.add_subplot()
    norm = CenteredNorm(0, max(float(np.abs(losses).max()), 1e-12))
    image = axes.imshow(losses, norm=norm, cmap="RdBu_r", aspect="auto", origin="lower", alpha=0.8)
    outline: list[AbstractPathEffect] = [withStroke(linewidth=2.5, foreground="white")]
    for i, alpha in enumerate(alphas):
        for j, phi in enumerate(phis):
            style: dict[str, Any] = {
                "ha": "center",
                "va": "center",
                "fontsize": 9,
                "path_effects": outline,
            }
            axes.text(j, i + 0.22, _words(found, alpha, phi), zorder=5, **style)
    if times.max() > (1 + EQUAL) * times.min():
        lines = axes.contour(times, levels=5, colors="#333333", linewidths=1, linestyles="dashed")
        labels = axes.clabel(lines, fmt=lambda value: f"{value:g} s", fontsize=8)
        for label in labels:
            label.set_path_effects(outline)
    axes.set_xticks(range(len(phis)), [words.percent(phi, 0) for phi in phis])
    names = ["1: dense", *map(words.setting, found.alphas)]
    axes.set_yticks(range(len(alphas)), names)
    axes.set_xlabel("φ, share of dense steps before the switch")
    axes.set_ylabel("α, share of the singular values")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes)
    plots.name_ticks(bar.ax.yaxis, lambda value: "0" if not value else words.signed(value, 2))
    bar.set_label(f"test loss less the dense network's, {unit}")
    what = "* more than noise; dashed: equal seconds of training"
    figure.suptitle(f"{title}\n{what}", x=0.01, ha="left", fontsize=10)
    return figure


def _words(found: AlphaPhiMap, alpha: float, phi: float) -> str:
    if alpha == 1:
        return words.number(mean(found.dense_losses))
    interval = found.against_dense(alpha, phi)
    return f"{words.signed(interval.mean, 2)}{'*' if interval.excludes(0) else ''}"

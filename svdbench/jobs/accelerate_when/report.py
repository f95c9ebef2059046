"""The report of ``accelerate --when``: where a layer of low rank is faster than a dense one."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from svdbench.record.reader import RecordedRun
from svdbench.reporting import plots
from svdbench.reporting.metrics import Metric, MetricValue
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.words import (
    UNKNOWN,
    few,
    fixed,
    integer,
    known,
    number,
    percent,
    plus_minus,
    ratio,
    seconds,
    setting,
)
from svdbench.statistics.intervals import Interval
from svdbench.timings import report as timings

BASELINE = "linear"
SPEED = Metric(
    "speed of a layer of low rank",
    *("speed", "× nn.Linear", "higher"),
    "geometric mean over rounds, each paired with nn.Linear's",
    ratio,
)
# Widths from here on are those that a low-rank layer is made for.
WIDE = 256
NOTE = (
    "speed: time of nn.Linear divided by that of the low-rank layer, forward and backward, as the "
    "geometric mean over rounds with half the 95% interval; then its share of the ceiling 1/α, the "
    "speed that the saved multiplications allow"
)


@dataclass(frozen=True)
class LayerSpeed:
    """The speed of a layer of low rank, × the dense one's, beside its ceiling.

    Attributes:
        width, rows: of the layer and of its batch.
        found: the speed with its interval.
        ceiling: the multiplications of the dense layer over its own.
    """

    alpha: float
    width: int
    rows: int
    found: Interval
    ceiling: float

    @property
    def pays(self) -> bool:
        """Whether it is faster by more than noise."""
        return self.found.low > 1

    @property
    def impossible(self) -> bool:
        """Whether it is faster than the multiplications can explain: the machine was disturbed."""
        return self.found.low > self.ceiling

    @property
    def of_ceiling(self) -> float:
        return self.found.mean / self.ceiling

    @property
    def metric(self) -> MetricValue:
        return SPEED.of_interval(self.found, alpha=self.alpha, d=self.width, m=self.rows)


def report(run: RecordedRun) -> Report:
    found, step, timed = timings.empty_report(run, "when low rank pays", ["m", "d"], place)
    speeds = speeds_of(run.frame("samples"), timed) if run.has("samples") else []
    if not speeds:
        found.blocks.append(Lines(timings.not_timed(step, place)))
        return found
    found.metrics = [speed.metric for speed in speeds]
    found.warnings += impossible(speeds)
    where = timings.where(timed.iloc[0])
    for rows in sorted({speed.rows for speed in speeds}):
        found.blocks.append(speeds_table(rows, speeds, timed, where))
    lines = [*where_it_pays(speeds), *of_ceilings(speeds), *timings.not_timed(step, place)]
    found.blocks.append(Lines(lines))
    found.headline = headline_of(speeds)
    found.figures["when"] = partial(heat_map, speeds, where)
    return found


def place(row: Any) -> str:
    return f"width {integer(row['d'])}, {integer(row['m'])} rows"


def speeds_of(samples: pd.DataFrame, timed: pd.DataFrame) -> list[LayerSpeed]:
    """The speed of each layer of low rank at each size, the largest α first."""
    told = timed.set_index(["method", "d", "m"])[["alpha", "ceiling"]].astype(float)
    found = []
    for method, d, m, longer in timings.paired_with(samples, timed, BASELINE):
        alpha, ceiling = told.loc[method, d, m]
        speed = Interval(1 / longer.mean, 1 / longer.high, 1 / longer.low, longer.count)
        found.append(LayerSpeed(float(alpha), d, m, speed, float(ceiling)))
    return sorted(found, key=lambda one: (-one.alpha, one.rows, one.width))


def speeds_table(rows: int, speeds: list[LayerSpeed], timed: pd.DataFrame, where: str) -> Table:
    """A line for each width: the time of ``nn.Linear``, and the speed at each α."""
    here = {(one.alpha, one.width): one for one in speeds if one.rows == rows}
    alphas = list(dict.fromkeys(alpha for alpha, _ in here))
    columns = ["nn.Linear", *(f"α {setting(alpha)}" for alpha in alphas)]
    title = f"speed of one layer, × nn.Linear: {integer(rows)} rows, {where}"
    table = Table.of(title, ["width"], columns, note=NOTE)
    dense = timed[(timed["method"] == BASELINE) & (timed["m"] == rows)].set_index("d")["median_s"]
    for width in sorted({width for _, width in here}):
        cells: list[Any] = [known(dense.get(width), seconds)]
        for alpha in alphas:
            one = here.get((alpha, width))
            cells.append(UNKNOWN if one is None else _speed(one))
        table.add(integer(width), *cells)
    return table


def _speed(one: LayerSpeed) -> TableCell:
    half = plus_minus(one.found.halfwidth, fixed)
    words = f"{ratio(one.found.mean)}{half}, {percent(one.of_ceiling, 0)}"
    if one.impossible:
        return TableCell(f"{words} !", "warn", value=one.found.mean)
    slower = one.found.high < 1
    return TableCell(words, "good" if one.pays else "bad" if slower else "", value=one.found.mean)


def impossible(speeds: list[LayerSpeed]) -> Iterator[str]:
    """A line where layers are faster than they can be."""
    places = [
        f"α {setting(one.alpha)} at width {integer(one.width)}, {integer(one.rows)} rows"
        for one in speeds
        if one.impossible
    ]
    if places:
        yield (
            f"warning: faster than the multiplications can explain: {few(places)}: other processes "
            "disturbed the run; repeat it on an idle machine"
        )


def pays_from(speeds: list[LayerSpeed]) -> int | None:
    """The width from which on all wider layers are faster by more than noise; None: none is.

    Args:
        speeds: at one α and number of rows.
    """
    widths = None
    for one in sorted(speeds, key=lambda one: -one.width):
        if not one.pays:
            break
        widths = one.width
    return widths


def where_it_pays(speeds: list[LayerSpeed]) -> Iterator[str]:
    """A line for each α: from which width it pays, by the rows of a batch."""
    for alpha in dict.fromkeys(one.alpha for one in speeds):
        words = []
        for rows in sorted({one.rows for one in speeds}):
            own = [one for one in speeds if (one.alpha, one.rows) == (alpha, rows)]
            width = pays_from(own)
            most = integer(max((one.width for one in own), default=0))
            start = f"at no width up to {most}" if width is None else f"from width {integer(width)}"
            if own:
                words.append(f"{start} with {integer(rows)} rows")
        yield f"α {setting(alpha)} pays {', '.join(words)}"


def of_ceilings(speeds: list[LayerSpeed]) -> Iterator[str]:
    """How much of the ceiling wide layers reach at the largest α."""
    wide = [
        one
        for one in speeds
        if one.width >= WIDE and one.alpha == speeds[0].alpha and not one.impossible
    ]
    if not wide:
        return
    least = min(wide, key=lambda one: one.of_ceiling)
    yield (
        f"α {setting(least.alpha)}, widths of {WIDE} and more: at least "
        f"{percent(least.of_ceiling, 0)} of the ceiling (width {integer(least.width)}, "
        f"{integer(least.rows)} rows)"
    )


def headline_of(speeds: list[LayerSpeed]) -> str:
    """The speeds at the largest size."""
    largest = max((one.width, one.rows) for one in speeds)
    here = [one for one in speeds if (one.width, one.rows) == largest]
    words = (
        f"α {setting(one.alpha)} {ratio(one.found.mean)} of {ratio(one.ceiling)}" for one in here
    )
    return f"width {integer(largest[0])}, {integer(largest[1])} rows: {', '.join(words)}"


def heat_map(speeds: list[LayerSpeed], where: str) -> Figure:
    """A panel for each α: the speed by width and rows, and what it is of the ceiling."""
    alphas = list(dict.fromkeys(one.alpha for one in speeds))
    widths = sorted({one.width for one in speeds})
    rows = sorted({one.rows for one in speeds})
    size = 0.9 + 0.95 * len(rows), 0.7 + 0.62 * len(widths)
    figure, grid = plots.panels(len(alphas), 3, size, (1.2, 1.0), sharey=True)
    most = max(2.0, *(max(one.found.mean, 1 / one.found.mean) for one in speeds))
    most = min(most, max(2.0, *(one.ceiling for one in speeds)))
    norm = LogNorm(1 / most, most)
    for axes, alpha in zip(grid, alphas, strict=True):
        table = np.full((len(widths), len(rows)), np.nan)
        for one in speeds:
            if one.alpha == alpha:
                i, j = widths.index(one.width), rows.index(one.rows)
                table[i, j] = one.found.mean
                mark = " !" if one.impossible else ""
                words = f"{ratio(one.found.mean)}{mark}\n{percent(one.of_ceiling, 0)}"
                color = "white" if abs(np.log(one.found.mean) / np.log(most)) > 0.6 else "black"
                axes.text(j, i, words, ha="center", va="center", color=color, fontsize=9)
        image = axes.imshow(table, norm=norm, cmap="RdBu", aspect="auto", origin="lower")
        ceiling = np.median([one.ceiling for one in speeds if one.alpha == alpha])
        axes.set_title(f"α {setting(alpha)}, at most {ratio(ceiling)}", loc="left", fontsize=10)
        axes.set_xticks(range(len(rows)), [integer(each) for each in rows])
        axes.set_yticks(range(len(widths)), [integer(each) for each in widths])
        axes.set_xlabel("rows of a batch")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    grid[0].set_ylabel("width: input and output features")
    bar = figure.colorbar(image, ax=grid)
    plots.name_log_ticks(bar.ax.yaxis, lambda value: f"{number(value)}×")
    title = "Speed of one low-rank layer, × nn.Linear; below it, the share of the ceiling"
    figure.suptitle(f"{title}\nforward and backward; {where}", x=0.01, ha="left", fontsize=11)
    return figure

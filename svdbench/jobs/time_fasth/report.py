"""The report of a ``time-fasth`` run: times, ratios to FastH, and floors."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svdbench.record.reader import RecordedRun
from svdbench.reporting.plots import (
    dress,
    label_lines,
    logarithmic,
    new_figure,
    plot_line,
)
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.styles import GREY, styles_of
from svdbench.reporting.words import quantity, ratio, seconds, size
from svdbench.timings import report as timings

BASELINE = "fasth"
FLOORS = (
    "step: φ(V)·X and both gradients, median of the repetitions; floor: the time of 12ndm "
    "operations at this machine's matrix-multiply rate, and of moving the data at its copy rate"
)
SIZE = (9.6, 5.6)  # of a figure, in inches


def report(run: RecordedRun) -> Report:
    found, step, timed = timings.report_of_steps(run, "a gradient-descent step φ(V)·X")
    if len(timed):
        found.blocks += [
            times_table(timed),
            timings.ratio_table(timed, "time relative to FastH", BASELINE),
        ]
        found.figures = figures(timed)
    found.blocks.append(Lines([*conclusions(timed), *timings.without_number(step)]))
    return found


def times_table(timed: pd.DataFrame) -> Table:
    """The median time of a step by method and size, fastest at the largest size first."""
    times = timings.by_size(timed)
    columns = [f"d = {d}" for d in times.columns]
    table = Table.of("time of a step", ["method"], columns, note=FLOORS)
    for method, row in times.iterrows():
        cells = (TableCell.number(value, seconds) for value in row)
        table.add(str(method), *cells, style="strong" if method == BASELINE else "")
    table.end_section()
    floors = timed.drop_duplicates("d").set_index("d")
    void = set(timed.loc[timings.below_floor(timed), "d"])
    for name, column in (("floor, 12ndm", "floor_s"), ("floor, bytes", "bytes_floor_s")):
        if floors[column].notna().all():
            floor = floors[column]
            shown = (timings.VOID if d in void else seconds(floor[d]) for d in times.columns)
            table.add(name, *shown, style="dim")
    return table


def conclusions(timed: pd.DataFrame) -> Iterator[str]:
    """FastH against the fastest method of another kind, and the larger floor, by size.

    Nothing of a size whose floor is void: its times were disturbed.
    """
    timed = timed[~timed["d"].isin(timed.loc[timings.below_floor(timed), "d"])]
    for _, row in timed[timed["method"] == BASELINE].sort_values("d").iterrows():
        rivals = timed[(timed["d"] == row["d"]) & (timed["kind"] != row["kind"])]
        if rivals.empty:
            continue
        best = rivals.loc[rivals["median_s"].idxmin()]
        yield (
            f"d = {size(row['d'])}: best other kind: {best['method']}, {ratio(row['vs_best'])} the "
            f"time of FastH, which takes {ratio(1 / row['of_larger_floor'])} the larger floor"
        )


def figures(timed: pd.DataFrame) -> dict[str, Callable[[], Figure]]:
    styles = styles_of(sorted(set(timed["method"])))
    drawn: dict[str, Callable[[], Figure]] = {"step_time": partial(step_time, timed, styles)}
    if BASELINE in styles:
        drawn["ratio_to_fasth"] = partial(ratio_to_fasth, timed, styles)
    void = timed["d"].isin(timed.loc[timings.below_floor(timed), "d"])
    if not void.all():
        drawn["times_floor"] = partial(times_floor, timed[~void], styles)
    return drawn


def step_time(step: pd.DataFrame, styles: timings.Styles) -> Figure:
    """Lines over the size; of one size, a bar for each method."""
    title = f"Time of a gradient step φ(V)·X  ({timings.where(step.iloc[0])})"
    if step["d"].nunique() == 1:
        return _of_one_size(step, title, lambda axes: timings.draw_bars(axes, step, styles))
    axes = new_figure(*SIZE).add_subplot()
    for method in timings.slowest_first(step):
        timings.draw_times(axes, step, method, styles[method])
    floor = step.drop_duplicates("d").sort_values("d")
    label = "floor, 12ndm"
    plot_line(axes, floor["d"], floor["floor_s"], color="black", ls=":", lw=1.5, label=label)
    if floor["bytes_floor_s"].notna().all():
        label = "floor, bytes"
        style: dict[str, Any] = {"color": GREY, "ls": ":", "lw": 1.5, "label": label}
        plot_line(axes, floor["d"], floor["bytes_floor_s"], **style)
    axes.set_ylabel("time of a step (median, quartile band)")
    return _finished(axes, step, title)


def ratio_to_fasth(step: pd.DataFrame, styles: timings.Styles) -> Figure:
    title = f"Time of a step relative to FastH  ({timings.where(step.iloc[0])})"
    name = "time of a step / FastH"
    if step["d"].nunique() == 1:
        times = step.set_index("method")["median_s"]
        return _of_one_size(
            step,
            title,
            lambda axes: timings.draw_ratio_bars(axes, times / times[BASELINE], styles, name),
        )
    axes = new_figure(*SIZE).add_subplot()
    timings.draw_ratios(axes, step, styles, BASELINE)
    axes.set_ylabel(name)
    return _finished(axes, step, title)


def times_floor(step: pd.DataFrame, styles: timings.Styles) -> Figure:
    """The time over the larger of the two floors."""
    name, where = "time of a step / floor", timings.where(step.iloc[0])
    title = f"Time of a step relative to its floor, for matrix products and for bytes  ({where})"
    if step["d"].nunique() == 1:
        times = 1 / step.set_index("method")["of_larger_floor"]
        return _of_one_size(
            step, title, lambda axes: timings.draw_ratio_bars(axes, times, styles, name)
        )
    axes = new_figure(*SIZE).add_subplot()
    for method in timings.slowest_first(step):
        rows = step[step["method"] == method].sort_values("d")
        axes.plot(rows["d"], 1 / rows["of_larger_floor"], label=method, **styles[method])
    axes.axhline(1, color="black", ls=":", lw=1.5, label="floor")
    logarithmic(axes, "×")
    axes.set_ylabel(name)
    return _finished(axes, step, title)


def _sizes(step: pd.DataFrame) -> str:
    row, one = step.iloc[0], step["d"].nunique() == 1
    d = f"d = {size(row['d'])}, " if one else ""
    equal = step["n"].nunique() > 1 or (one and row["n"] == row["d"])
    columns = "n = d" if equal else f"n = {size(row['n'])}"
    return f"{d}{columns}, m = {quantity(row['m'], 'column')}"


def _of_one_size(step: pd.DataFrame, title: str, draw: Callable[[Axes], None]) -> Figure:
    figure = new_figure(9.0, 1.6 + 0.32 * len(step))
    axes = figure.add_subplot()
    draw(axes)
    axes.set_title(f"{title[:-1]}, {_sizes(step)})", loc="left", fontsize=11)
    return figure


def _finished(axes: Axes, step: pd.DataFrame, title: str) -> Figure:
    axes.set_title(title, loc="left")
    axes.set_xlabel(f"d, length of a reflector  ({_sizes(step)})")
    dress(axes, sorted(set(step["d"])))
    label_lines(axes)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return figure

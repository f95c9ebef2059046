"""The report of a ``time-fasth`` run: times, ratios to FastH, and floors."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svdbench.record.reader import RecordedRun
from svdbench.reporting.plots import dress, hue, logarithmic, mark, new_figure, plot_line
from svdbench.reporting.report import Lines, Report, Table
from svdbench.reporting.words import known, quantity, ratio, seconds
from svdbench.timings import report as timings

BASELINE = "fasth"
Styles = dict[str, dict[str, Any]]


def report(run: RecordedRun) -> Report:
    summary = timings.read_summary(run)
    step = summary[summary["pass"] == "step"]
    timed = step[step["status"] == "ok"]
    found = Report("a gradient-descent step φ(V)·X", timings.headline(timed), frames={"step": step})
    found.blocks.append(Lines(timings.disturbed(step)))
    if len(timed):
        found.blocks += [times_table(timed), ratio_table(timed)]
        found.figures = figures(timed)
    found.blocks.append(Lines([*conclusions(timed), *timings.without_number(step)]))
    return found


def times_table(timed: pd.DataFrame) -> Table:
    """The median time of a step by method and size, fastest at the largest size first."""
    times = _by_size(timed)
    table = _table("time of a step", times)
    for method, row in times.iterrows():
        cells = (known(value, seconds) for value in row)
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


def ratio_table(timed: pd.DataFrame) -> Table:
    times = _by_size(timed)
    table = _table("times FastH's", times)
    if BASELINE in times.index:
        for method, row in (times / times.loc[BASELINE]).drop(BASELINE).iterrows():
            table.add(str(method), *map(ratio, row))
    return table


def _by_size(timed: pd.DataFrame) -> pd.DataFrame:
    times = timed.pivot_table(index="method", columns="d", values="median_s")
    return times.sort_values(list(times.columns)[::-1])


def _table(title: str, times: pd.DataFrame) -> Table:
    return Table.of(title, ["method"], [f"d = {d}" for d in times.columns])


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
            f"d = {row['d']:<5.0f} best other kind: {best['method']}, {ratio(row['vs_best'])} "
            f"FastH's time; FastH {ratio(1 / row['of_larger_floor'])} the floor"
        )


def figures(timed: pd.DataFrame) -> dict[str, Callable[[], Figure]]:
    styles = _styles(timed)
    drawn: dict[str, Callable[[], Figure]] = {"step_time": partial(step_time, timed, styles)}
    if BASELINE in styles:
        drawn["ratio_to_fasth"] = partial(ratio_to_fasth, timed, styles)
    void = timed["d"].isin(timed.loc[timings.below_floor(timed), "d"])
    if not void.all():
        drawn["fraction_of_floor"] = partial(fraction_of_floor, timed[~void], styles)
    return drawn


def _styles(step: pd.DataFrame) -> Styles:
    """Colour by kind, mark within the kind; the baseline is thick and drawn last."""
    styles: Styles = {}
    kinds = list(dict.fromkeys(step.sort_values("kind")["kind"]))
    for kind, rows in step.groupby("kind"):
        for i, method in enumerate(sorted(set(rows["method"]))):
            styles[method] = {
                "color": hue(kinds.index(kind)),
                "marker": mark(i),
                "linewidth": 1.3,
                "markersize": 5,
                "zorder": 3,
            }
    if BASELINE in styles:
        styles[BASELINE] |= {"color": "black", "linewidth": 2.6, "zorder": 5}
    return styles


def step_time(step: pd.DataFrame, styles: Styles) -> Figure:
    figure = new_figure(9.6, 5.6)
    axes = figure.add_subplot()
    for method in timings.slowest_first(step):
        timings.draw_times(axes, step, method, styles[method])
    floor = step.drop_duplicates("d").sort_values("d")
    label = "floor: 12ndm flop\nat matmul rate"
    plot_line(axes, floor["d"], floor["floor_s"], color="black", ls=":", lw=1.5, label=label)
    if floor["bytes_floor_s"].notna().all():
        label = "floor: least bytes\nat copy rate"
        style: dict[str, Any] = {"color": "#888888", "ls": ":", "lw": 1.5, "label": label}
        plot_line(axes, floor["d"], floor["bytes_floor_s"], **style)
    axes.set_ylabel("time of a step (median, quartile band)")
    return _finished(axes, step, "A gradient-descent step φ(V)·X")


def ratio_to_fasth(step: pd.DataFrame, styles: Styles) -> Figure:
    axes = new_figure(9.6, 5.6).add_subplot()
    timings.draw_ratios(axes, step, styles, BASELINE)
    axes.set_ylabel("step time / FastH's step time")
    return _finished(axes, step, "How many times slower than FastH")


def fraction_of_floor(step: pd.DataFrame, styles: Styles) -> Figure:
    axes = new_figure(9.6, 5.6).add_subplot()
    for method in reversed(timings.slowest_first(step)):
        rows = step[step["method"] == method].sort_values("d")
        axes.plot(rows["d"], 100 * rows["of_larger_floor"], label=method, **styles[method])
    logarithmic(axes, " %")
    axes.set_ylabel("floor / step time")
    return _finished(axes, step, "How close to the larger of the two floors")


def _finished(axes: Axes, step: pd.DataFrame, title: str) -> Figure:
    row = step.iloc[0]
    axes.set_title(f"{title}  ({timings.where(row)})", loc="left")
    columns = f"n = {row['n']:.0f}" if step["n"].nunique() == 1 and len(step) > 1 else "n = d"
    axes.set_xlabel(f"d, length of a reflector  ({columns}, m = {quantity(row['m'], 'column')})")
    dress(axes, sorted(set(step["d"])))
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5)
    return figure

"""The report of a ``time-rnn`` run: loops by hidden size and by length."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svdbench.measure import voids_floor
from svdbench.record.reader import RecordedRun
from svdbench.reporting.plots import dress, label_panels, panels
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.styles import styles_of
from svdbench.reporting.words import integer, mebibytes, ratio, seconds, share
from svdbench.timings import report as timings

BASELINE = "torch_rnn"
# Methods whose ratio is reported, and the methods they are compared with; where W is made of
# reflectors, those of as many.
OURS, OTHERS = "spectral", ("rnn", "lstm", "reflectors", "fasth")
EXPECTED = ("slides_ops", "sequential_ops")
NOTE = (
    "k: reflectors per block; ops: dependent matrix operations of a forward loop, as "
    "counted and as the slides of Kovtun et al. expect"
)
DOTTED = "dotted: as the slides of Kovtun et al. expect, from the first point"
# What a size is called along an axis, and before a number.
AXES = {"d": ("n, hidden units", "n"), "length": ("T, steps", "T")}

Draw = Callable[[Axes, pd.DataFrame, timings.Styles, str], None]


def report(run: RecordedRun) -> Report:
    found, step, timed = timings.empty_report(run, "recurrent loops", ["length", "d"], place)
    found.metrics = timings.times_of(timed)
    # Of any number of reflectors; the hidden units are called n.
    timings.summarise_times(found, timed.drop(columns="n"), called={"d": "n", "length": "T"})
    for length, rows in timed.groupby("length"):
        found.blocks.append(times_table(rows, f"time of a step, T = {length}"))
        title = f"time relative to {BASELINE}, T = {length}"
        found.blocks.append(timings.ratio_table(rows, title, BASELINE, "n"))
    if len(timed):
        found.blocks.append(costs_table(timed))
        found.figures = figures(timed)
    sound = timed[~timings.below_floor(timed)]
    lines = (*conclusions(sound), *expectations(sound), *timings.not_timed(step, place))
    found.blocks.append(Lines(lines))
    return found


def times_table(timed: pd.DataFrame, title: str) -> Table:
    """Methods by hidden sizes of one length, fastest at the largest size first."""
    times = timings.by_size(timed)
    table = Table.of(title, ["method"], [f"n = {d}" for d in times.columns])
    for method, row in times.iterrows():
        table.add(str(method), *(TableCell.number(value, seconds) for value in row))
    floors = timed.drop_duplicates("d").set_index("d")["floor_s"]
    if floors.notna().all():
        table.end_section()
        void = set(timed.loc[timings.below_floor(timed), "d"])
        cells = [
            timings.VOID if d in void else TableCell.number(floors[d], seconds)
            for d in times.columns
        ]
        table.add("floor, 6TBn²", *cells, style="dim")
    return table


def costs_table(timed: pd.DataFrame) -> Table:
    """What a loop costs beside time, at the largest size and length."""
    largest = largest_of(timed).sort_values("median_s")
    columns = ["memory", "of floor", "k", "ops", "slides' ops", "loop by"]
    table = Table.of(f"at {place(largest.iloc[0])}", ["method"], columns, note=NOTE)
    for row in largest.to_dict("records"):
        table.add(
            row["method"],
            TableCell.number(row["peak_bytes"], mebibytes),
            _of_floor(row["of_floor"]),
            *(
                TableCell.number(row[column], integer)
                for column in ("block_size", "sequential_ops", "slides_ops")
            ),
            _loop(row.get("loop")),  # runs before 2026-12 have no such column
        )
    return table


def _loop(value: Any) -> str:
    return value if isinstance(value, str) else "–"


def _of_floor(fraction: float) -> TableCell:
    if voids_floor([fraction]):
        return TableCell(timings.VOID)
    return TableCell.number(fraction, share)


def conclusions(timed: pd.DataFrame) -> Iterator[str]:
    """W built once against torch.nn, and against reflectors or FastH at every step."""
    longest = timed[timed["length"] == timed["length"].max()]
    for _, cell in longest.groupby("d"):
        for ours in cell[cell["kind"] == OURS].to_dict("records"):
            found = []
            for kind in OTHERS:
                rivals = cell[(cell["kind"] == kind) & cell["n"].isin([0, ours["n"]])]
                for rival in rivals.drop_duplicates("n").to_dict("records"):
                    found.append(f"{rival['method']} {ratio(rival['median_s'] / ours['median_s'])}")
            if found:
                yield f"{place(ours)}: {', '.join(found)} the time of {ours['method']}"


def expectations(timed: pd.DataFrame) -> Iterator[str]:
    """What FastH at every step gains on reflectors one by one, expected and measured."""
    for _, cell in largest_of(timed[timed["n"] > 0]).groupby("n"):
        by_kind = {row["kind"]: row for row in cell.to_dict("records")}
        if not {"reflectors", "fasth"} <= set(by_kind):
            continue
        slow, fast = by_kind["reflectors"], by_kind["fasth"]
        gain = {name: slow[name] / fast[name] for name in (*EXPECTED, "median_s")}
        yield (
            f"{place(slow)}: {slow['method']} takes {ratio(gain['median_s'])} the time of "
            f"{fast['method']}; the slides of Kovtun et al. expect {ratio(gain['slides_ops'])}, "
            f"the number of dependent operations is {ratio(gain['sequential_ops'])}"
        )


def largest_of(timed: pd.DataFrame) -> pd.DataFrame:
    """The cell of the largest size and length."""
    longest = timed[timed["length"] == timed["length"].max()]
    return longest[longest["d"] == longest["d"].max()]


def place(row: Any) -> str:
    return f"n = {row['d']}, T = {row['length']}"


def figures(timed: pd.DataFrame) -> dict[str, Callable[[], Figure]]:
    """Time by hidden size and by length, and the ratio to torch."""
    about = f"({timings.where(timed.iloc[0])}, batch of {timed['m'].iloc[0]})"
    title = f"Time of a loop over T steps, forward and backward  {about}"
    times = _times, title, "time of a step (median, quartile band)"
    drawn = {"step_time": partial(_figure, timed, "d", "length", *times)}
    if timed["length"].nunique() > 1:
        drawn["step_time_by_length"] = partial(_figure, timed, "length", "d", *times)
    if BASELINE in set(timed["method"]):
        ratios = _ratios, f"Time of the loop relative to {BASELINE}  {about}", f"time / {BASELINE}"
        drawn[f"ratio_to_{BASELINE}"] = partial(_figure, timed, "d", "length", *ratios)
    return {**drawn}


def _figure(timed: pd.DataFrame, x: str, panel: str, draw: Draw, title: str, height: str) -> Figure:
    """A panel for each value of ``panel``, all with ``x`` across and the same heights.

    Of a single ``x``, each panel has a bar for every method.
    """
    values, across = sorted(set(timed[panel])), sorted(set(timed[x]))
    lines = len(across) > 1
    width = 4.4 if len(values) > 1 else 6.4
    figure, grid = panels(len(values), len(values), (width, 5.4), (2.6, 0), sharey=lines)
    styles = styles_of(sorted(set(timed["method"])))
    for axes, value in zip(grid, values, strict=True):
        draw(axes, timed[timed[panel] == value], styles, x)
        at = "" if lines else f", {AXES[x][1]} = {across[0]}"
        axes.set_title(f"{AXES[panel][1]} = {value}{at}", loc="left", fontsize=10)
        if lines:
            dress(axes, across)
            axes.set_xlabel(AXES[x][0])
    if lines and draw is _times and timed["slides_ops"].notna().any():
        title += f"\n{DOTTED}"
    figure.suptitle(title, x=0.01, ha="left")
    if lines:
        grid[0].set_ylabel(height)
        label_panels(grid)
    return figure


def _times(axes: Axes, timed: pd.DataFrame, styles: timings.Styles, x: str) -> None:
    if timed[x].nunique() == 1:
        timings.draw_bars(axes, timed, styles)
        return
    for method in timings.slowest_first(timed):
        timings.draw_times(axes, timed, method, styles[method], x)
        rows = timed[timed["method"] == method].sort_values(x)
        expected = rows["slides_ops"]
        if expected.notna().all() and len(rows) > 1:
            scaled = expected * (rows["median_s"].iloc[0] / expected.iloc[0])
            axes.plot(rows[x], scaled, ":", color=styles[method]["color"], lw=1.6, zorder=2)
    floor = timed.drop_duplicates(x).sort_values(x)
    if floor["floor_s"].notna().all():
        label = "floor, 6TBn²"
        mark = "" if len(floor) > 1 else "_"
        axes.plot(floor[x], floor["floor_s"], "--", marker=mark, color="#888888", label=label)


def _ratios(axes: Axes, timed: pd.DataFrame, styles: timings.Styles, x: str) -> None:
    if timed[x].nunique() > 1:
        timings.draw_ratios(axes, timed, styles, BASELINE, x, lw=2)
        return
    times = timed.set_index("method")["median_s"]
    if BASELINE in times:
        timings.draw_ratio_bars(axes, times / times[BASELINE], styles, f"time / {BASELINE}")

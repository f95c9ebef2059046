"""The table of a timing run, from its ``summary.csv`` and nothing else."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from svdbench.measure.quiet import BUSY, LARGEST_FRACTION
from svdbench.quantities import ratio
from svdbench.report.plots import BASELINE, draw_all
from svdbench.report.tables import new_table, print_lines, read_table
from svdbench.report.units import seconds

if TYPE_CHECKING:
    import pandas as pd

# The columns that have a floor over the time, and what is shown of one that is void.
FRACTIONS = ("of_floor", "of_larger_floor")
VOID = "void"


def read_summary(folder: Path) -> "pd.DataFrame":
    """The rows of ``summary.csv``, numbers as numbers; of any schema version."""
    rows = read_table(folder, "summary")
    # What was not written yet: there was one floor, that of the arithmetic, and all was warm.
    later = {
        "foreign_cores": math.nan,
        "l2": "warm",
        "bytes_floor_s": math.nan,
        "of_larger_floor": rows["of_floor"],
        "device_name": None,
    }
    return rows.assign(**{name: value for name, value in later.items() if name not in rows})


def show_run(folder: Path, console: Console) -> None:
    """Print the tables of a ``time-fasth`` run and draw its plots."""
    summary = read_summary(folder)
    step = summary[summary["pass"] == "step"]
    print_lines(console, disturbed(step))
    if (step["status"] == "ok").any():
        for table in (times_table(step), ratio_table(step)):
            console.print(table)
    print_lines(console, (*conclusions(step), *without_number(step)))
    print_lines(console, draw_all(folder, summary))


def times_table(step: "pd.DataFrame") -> Table:
    """The median time of a step by method and size, fastest at the largest size first."""
    timed = step[step["status"] == "ok"]
    times = _by_size(timed)
    table = _table("time of a step", times)
    for method, row in times.iterrows():
        cells = ["–" if value != value else seconds(value) for value in row]
        table.add_row(str(method), *cells, style="bold" if method == BASELINE else None)
    floors = timed.drop_duplicates("d").set_index("d")
    table.add_section()
    void = set(timed.loc[below_floor(timed), "d"])
    for name, column in (("floor, 12ndm", "floor_s"), ("floor, bytes", "bytes_floor_s")):
        if floors[column].notna().all():
            floor = floors[column]
            shown = (VOID if d in void else seconds(floor[d]) for d in times.columns)
            table.add_row(name, *shown, style="dim")
    return table


def ratio_table(step: "pd.DataFrame") -> Table:
    """How many times FastH's the time of each method is."""
    times = _by_size(step[step["status"] == "ok"])
    table = _table("times FastH's", times)
    if BASELINE not in times.index:
        return table
    for method, row in (times / times.loc[BASELINE]).iterrows():
        if method != BASELINE:
            table.add_row(str(method), *map(ratio, row))
    return table


def _by_size(timed: "pd.DataFrame") -> "pd.DataFrame":
    times = timed.pivot_table(index="method", columns="d", values="median_s")
    return times.sort_values(list(times.columns)[::-1])


def _table(title: str, times: "pd.DataFrame") -> Table:
    return new_table(title, ["method"], [f"d = {d}" for d in times.columns])


def conclusions(step: "pd.DataFrame") -> list[str]:
    """FastH against the fastest method of another kind, and the larger floor, by size.

    Nothing of a size whose floor is void: its times were disturbed.
    """
    found = []
    timed = step[step["status"] == "ok"]
    timed = timed[~timed["d"].isin(timed.loc[below_floor(timed), "d"])]
    for _, row in timed[timed["method"] == BASELINE].sort_values("d").iterrows():
        rivals = timed[(timed["d"] == row["d"]) & (timed["kind"] != row["kind"])]
        if rivals.empty:
            continue
        best = rivals.loc[rivals["median_s"].idxmin()]
        found.append(
            f"d = {row['d']:<5.0f} best other kind: {best['method']}, {ratio(row['vs_best'])} "
            f"FastH's time; FastH {ratio(1 / row['of_larger_floor'])} the floor"
        )
    return found


def below_floor(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """For each row, whether its time lies below its floor, which nothing can."""
    return _largest_fraction(rows) > LARGEST_FRACTION


def _void_floors(
    rows: "pd.DataFrame", sizes: Sequence[str], place: Callable[[Any], str]
) -> Iterator[str]:
    """A line for each cell in which a method was faster than its floor allows."""
    timed = rows[rows["status"] == "ok"]
    for _, cell in timed[below_floor(timed)].groupby(list(sizes)):
        worst = cell.loc[_largest_fraction(cell).idxmax()]
        yield (
            f"beware: at {place(worst)} the floor is void: {worst['method']} took "
            f"{ratio(1 / _largest_fraction(cell).max())} its time. The machine's rate was measured "
            "while other processes had the cores: repeat it when they rest"
        )


def _largest_fraction(rows: "pd.DataFrame") -> "pd.Series[float]":
    known = rows[[name for name in FRACTIONS if name in rows]]
    return known.astype(float).max(axis=1)


def disturbed(
    step: "pd.DataFrame",
    sizes: Sequence[str] = ("d",),
    place: Callable[[Any], str] = lambda row: f"d = {row['d']}",
) -> Iterator[str]:
    """The cells in which other processes took so much of the machine that it shows.

    To be said first, as it decides what the numbers are worth.

    Args:
        sizes: the columns that tell cells apart.
        place: the size of a row's cell, in words.
    """
    yield from _void_floors(step, sizes, place)
    for _, cell in step.groupby(list(sizes)):
        cores = cell["foreign_cores"].max()
        if cores > BUSY:
            yield (
                f"beware: at {place(cell.iloc[0])} other processes kept {cores:.1f} cores busy; "
                "repeat it when they rest"
            )


def without_number(step: "pd.DataFrame") -> list[str]:
    """Why methods have no number, once per reason."""
    missing = step[step["status"] != "ok"]
    methods: dict[tuple[str, str, str], list[str]] = {}
    for (method, status, reason), rows in missing.groupby(["method", "status", "reason"]):
        sizes = ", ".join(f"{d:.0f}" for d in sorted(rows["d"]))
        methods.setdefault((status, sizes, reason), []).append(method)
    return [
        f"{', '.join(names)} {status} at d = {sizes}: {reason}"
        for (status, sizes, reason), names in methods.items()
    ]

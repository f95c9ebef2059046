"""The table of a timing run, from its ``summary.csv`` and nothing else."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from svdbench.report.plots import BASELINE, draw_all
from svdbench.report.units import seconds

if TYPE_CHECKING:
    import pandas as pd

# Cores of other processes from which on timings are not to be trusted.
BUSY = 0.25


def read_summary(folder: Path) -> "pd.DataFrame":
    """The rows of ``summary.csv``, numbers as numbers; of any schema version."""
    import pandas as pd

    rows = pd.read_csv(folder / "summary.csv", keep_default_na=False, na_values=[""])
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
    if (step["status"] == "ok").any():
        for table in (times_table(step), ratio_table(step)):
            console.print(table)
    for text in (*conclusions(step), *without_number(step), *disturbed(step)):
        console.print(text, highlight=False, soft_wrap=True, markup=False)
    for path in draw_all(folder, summary):
        console.print(str(path), highlight=False, soft_wrap=True)


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
    for name, column in (("floor, 12ndm", "floor_s"), ("floor, bytes", "bytes_floor_s")):
        if floors[column].notna().all():
            table.add_row(name, *(seconds(floors[column][d]) for d in times.columns), style="dim")
    return table


def ratio_table(step: "pd.DataFrame") -> Table:
    """How many times FastH's the time of each method is."""
    times = _by_size(step[step["status"] == "ok"])
    table = _table("times FastH's", times)
    if BASELINE not in times.index:
        return table
    for method, row in (times / times.loc[BASELINE]).iterrows():
        if method != BASELINE:
            table.add_row(str(method), *("–" if r != r else f"{r:.3g}×" for r in row))
    return table


def _by_size(timed: "pd.DataFrame") -> "pd.DataFrame":
    times = timed.pivot_table(index="method", columns="d", values="median_s")
    return times.sort_values(list(times.columns)[::-1])


def _table(title: str, times: "pd.DataFrame") -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, title_style="bold")
    table.add_column("method", no_wrap=True)
    for d in times.columns:
        table.add_column(f"d = {d}", justify="right", no_wrap=True)
    return table


def conclusions(step: "pd.DataFrame") -> list[str]:
    """FastH against the fastest method of another kind, and the larger floor, by size."""
    found = []
    timed = step[step["status"] == "ok"]
    for _, row in timed[timed["method"] == BASELINE].sort_values("d").iterrows():
        rivals = timed[(timed["d"] == row["d"]) & (timed["kind"] != row["kind"])]
        if rivals.empty:
            continue
        best = rivals.loc[rivals["median_s"].idxmin()]
        found.append(
            f"d = {row['d']:<5.0f} best other kind: {best['method']}, {row['vs_best']:.2f}× "
            f"FastH's time; FastH {1 / row['of_larger_floor']:.2f}× the floor"
        )
    return found


def disturbed(step: "pd.DataFrame") -> list[str]:
    """The sizes at which other processes took so much of the machine that it shows."""
    busy = step.groupby("d")["foreign_cores"].max()
    return [
        f"beware: at d = {d} other processes kept {cores:.1f} cores busy; repeat it when they rest"
        for d, cores in busy[busy > BUSY].items()
    ]


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

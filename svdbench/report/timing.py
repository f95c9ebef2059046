"""The table of a timing run, from its ``summary.csv`` and nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from svdbench.report.plots import BASELINE, draw_all
from svdbench.report.units import seconds

if TYPE_CHECKING:
    import pandas as pd


def read_summary(folder: Path) -> "pd.DataFrame":
    """The rows of ``summary.csv``, numbers as numbers."""
    import pandas as pd

    return pd.read_csv(folder / "summary.csv", keep_default_na=False, na_values=[""])


def show_run(folder: Path, console: Console) -> None:
    """Print the table of a ``time-fasth`` run and draw its plots."""
    summary = read_summary(folder)
    step = summary[summary["pass"] == "step"]
    console.print(step_table(step))
    for line in conclusions(step):
        console.print(line, highlight=False)
    for line in without_number(step):
        console.print(line, style="dim", highlight=False)
    for path in draw_all(folder, summary):
        console.print(str(path), highlight=False)


def step_table(step: "pd.DataFrame") -> Table:
    """Step times by method and size; in brackets how many times FastH's."""
    sizes = sorted(set(step["d"]))
    timed = step[step["status"] == "ok"]
    times = timed.pivot_table(index="method", columns="d", values="median_s")
    table = Table(title="time of a step, and how many times FastH's", title_justify="left")
    table.add_column("method", no_wrap=True)
    for d in sizes:
        table.add_column(f"d = {d}", justify="right", no_wrap=True)
    order = times.sort_values(list(times.columns)[::-1]).index if len(times) else []
    base = times.loc[BASELINE] if BASELINE in times.index else None
    for method in order:
        cells = [_cell(times.loc[method], base, d, method) for d in sizes]
        table.add_row(method, *cells, style="bold" if method == BASELINE else None)
    floors = timed.drop_duplicates("d").set_index("d")["floor_s"]
    table.add_section()
    table.add_row("floor, 12ndm", *(_cell(floors, base, d, "floor") for d in sizes), style="dim")
    return table


def _cell(times: Any, base: Any, d: int, method: str) -> str:
    value = times.get(d)
    if value is None or value != value:
        return "–"
    other = base.get(d) if base is not None and method != BASELINE else None
    return seconds(value) + (f" ({value / other:.3g}×)" if other and other == other else "")


def conclusions(step: "pd.DataFrame") -> list[str]:
    """FastH against the fastest method of another kind, and against the floor, by size."""
    found = []
    timed = step[step["status"] == "ok"]
    for _, row in timed[timed["method"] == BASELINE].sort_values("d").iterrows():
        rivals = timed[(timed["d"] == row["d"]) & (timed["kind"] != row["kind"])]
        if rivals.empty:
            continue
        best = rivals.loc[rivals["median_s"].idxmin()]
        found.append(
            f"d = {row['d']:<5.0f} best of another kind: {best['method']}, {row['vs_best']:.2f}× "
            f"FastH's time; FastH is at {1 / row['of_floor']:.2f}× the floor"
        )
    return found


def without_number(step: "pd.DataFrame") -> list[str]:
    """Why a method has no number, once per reason."""
    missing = step[step["status"] != "ok"]
    lines = []
    for (method, status, reason), rows in missing.groupby(["method", "status", "reason"]):
        sizes = ", ".join(f"{d:.0f}" for d in sorted(rows["d"]))
        lines.append(f"{method} {status} at d = {sizes}: {reason}")
    return lines

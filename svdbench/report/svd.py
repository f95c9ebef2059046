"""Tables and answers of a ``time-svd`` run, from its ``summary.csv`` and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from svdbench.report.svd_plots import draw_all
from svdbench.report.tables import new_table, print_lines, read_table
from svdbench.reporting.words import ratio, seconds
from svdbench.timings.report import disturbed

if TYPE_CHECKING:
    import pandas as pd

# Drivers count as comparable whose error is at most so many times the best, on every spectrum.
GOOD = 1.01
AUTO, FULL, PEER = "auto", "torch_svd", "torch_svd_lowrank"

MEANING = f"""time: the median of the slowest spectrum; beside it the largest error, in
Frobenius norm, over the least that rank k can have; dim: above {GOOD} on one
"""


def show_run(folder: Path, console: Console) -> None:
    """Print the tables and what follows from them, and draw the plots."""
    summary = read_table(folder, "summary")
    judged = by_driver(summary)
    print_lines(console, disturbed(summary, ["m", "n"], lambda row: f"{row['m']} × {row['n']}"))
    for _, rows in judged.groupby(["m", "n"]):
        console.print(shape_table(rows))
    if len(judged):
        console.print(MEANING, highlight=False)
    print_lines(console, (*conclusions(judged), *without_number(summary)))
    print_lines(console, draw_all(folder, judged, GOOD))


def by_driver(summary: "pd.DataFrame") -> "pd.DataFrame":
    """A row for each driver, shape and rank, over all spectra; drivers without a number left out.

    ``time_s`` is the largest of the medians, ``over_optimal`` the largest error, ``good``
    whether that is at most ``GOOD``. Who failed on a spectrum has no row.
    """
    cells = ["m", "n", "k", "method"]
    whole = summary.groupby(cells)["status"].transform(lambda status: (status == "ok").all())
    about = {name: (name, "first") for name in ("ours", "exact", "chosen", "dtype", "device")}
    judged = (
        summary[whole]
        .groupby(cells)
        .agg(
            time_s=("median_s", "max"),
            over_optimal=("over_optimal", "max"),
            threads=("threads", "first"),
            spectra=("spectrum", "nunique"),
            **about,
        )
        .reset_index()
    )
    return judged.assign(good=judged["over_optimal"] <= GOOD)


def shape_table(rows: "pd.DataFrame") -> Table:
    """Drivers by ranks for one shape, fastest at the largest rank first."""
    ranks = sorted(set(rows["k"]))
    first = rows.iloc[0]
    title = f"{first['m']} × {first['n']}: time, and error over the best"
    table = new_table(title, ["driver"], [f"k = {k}" for k in ranks])
    table.pad_edge = False  # three ranks fit into 80 columns
    ordered = rows.sort_values(["k", "time_s"], ascending=[False, True])
    for method in dict.fromkeys(ordered["method"]):
        own = {row["k"]: row for row in rows[rows["method"] == method].to_dict("records")}
        table.add_row(method, *(_cell(own.get(k)) for k in ranks))
    return table


def _cell(row: Any) -> str:
    if row is None:
        return "–"
    text = f"{seconds(row['time_s'])} {row['over_optimal']:.3f}"
    return text if row["good"] else f"[dim]{text}[/dim]"


def conclusions(judged: "pd.DataFrame") -> Iterator[str]:
    """For each shape and rank: the automatic choice against the fastest, and ours against torch."""
    for (m, n, k), cell in judged.groupby(["m", "n", "k"]):
        rows = {row["method"]: row for row in cell.to_dict("records")}
        words = []
        rivals = [row for row in rows.values() if row["good"] and row["method"] != AUTO]
        if AUTO in rows and rivals:
            best = min(rivals, key=lambda row: row["time_s"])
            times = ratio(rows[AUTO]["time_s"] / best["time_s"])
            words.append(
                f"{AUTO} ({rows[AUTO]['chosen']}) takes {times} the time of the fastest "
                f"within {GOOD}, {best['method']}"
            )
        ours = rows.get("randomized")
        for name in (FULL, PEER):
            if ours and name in rows:
                times = ratio(rows[name]["time_s"] / ours["time_s"])
                words.append(f"{name} {times} that of randomized")
        if words:
            yield f"{m} × {n}, k = {k}: {'; '.join(words)}"


def without_number(summary: "pd.DataFrame") -> Iterator[str]:
    """Why drivers have no number, once for each shape and rank."""
    missing = summary[summary["status"] != "ok"]
    for _, rows in missing.groupby(["method", "m", "n", "k"]):
        row = rows.iloc[0]
        yield f"{row['method']} {row['status']} at {place(row)}: {row['reason']}"


def place(row: Any) -> str:
    """The case of a row, in words."""
    return f"{row['m']} × {row['n']}, k = {row['k']}, {row['spectrum']}"

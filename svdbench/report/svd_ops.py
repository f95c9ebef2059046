"""Tables and plot of a ``time-svd-ops`` run, from its ``summary.csv`` and nothing else."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from svdbench.record.reader import RecordedRun
from svdbench.report.tables import new_table, print_lines
from svdbench.reporting.plots import HUES, MARKS, dress, save
from svdbench.reporting.words import quantity, ratio, seconds
from svdbench.timings.report import (
    below_floor,
    disturbed,
    draw_times,
    read_summary,
    slowest_first,
    where,
    without_number,
)

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "svd"  # the kind that the others are compared with
ERRORS = ["error", "grad_V_error", "grad_X_error"]
FORMULAS = {
    "inverse": "inverse, W⁻¹X",
    "logdet": "log-determinant, WX and log|det W|",
    "exp": "exponential, eᵂX",
    "cayley": "Cayley map, (I − W)(I + W)⁻¹X",
}


def show_run(folder: Path, console: Console) -> None:
    """Print a table for each operation and draw the plot."""
    summary = read_summary(RecordedRun(folder))
    step = summary[summary["pass"] == "step"]
    timed = step[step["status"] == "ok"]
    print_lines(console, disturbed(step))
    for operation, rows in timed.groupby("operation"):
        console.print(table_of(str(operation), rows))
    if len(timed):
        console.print("time of a step, its ratio to the factored way's, and the worst relative")
        console.print("error of its value and gradients against float64\n")
    print_lines(console, (*conclusions(timed), *without_number(step)))
    if len(timed):
        print_lines(console, draw(folder, timed))


def table_of(operation: str, timed: "pd.DataFrame") -> Table:
    """Sizes by methods: time, ratio to the factored way, and error."""
    methods = _baseline_first(timed)
    table = new_table(_title(operation), [], ["d", *methods], keys=1)
    for d, rows in timed.groupby("d"):
        base = rows.loc[rows["kind"] == BASELINE, "median_s"].min()
        by_method = rows.set_index("method")
        cells = [_cell(by_method.loc[m], base) if m in by_method.index else "–" for m in methods]
        table.add_row(str(d), *cells)
    return table


def _cell(row: Any, base: float) -> str:
    compared = row["kind"] != BASELINE and base == base
    times = f" {ratio(row['median_s'] / base)}" if compared else ""
    error = f"{row[ERRORS].max():.0e}".replace("e-0", "e-")
    return f"{seconds(row['median_s'])}{times} {error}"


def conclusions(timed: "pd.DataFrame") -> list[str]:
    """Where the factored way is clearly the fastest, and the best other at the largest size.

    Clearly: its quartile band lies below that of every other. Less is a tie.
    """
    found = []
    timed = timed[~below_floor(timed)]
    for operation, rows in timed.groupby("operation"):
        won, last = [], ""
        for d, at_d in rows.groupby("d"):
            svd, others = at_d[at_d["kind"] == BASELINE], at_d[at_d["kind"] != BASELINE]
            if svd.empty or others.empty:
                continue
            if svd["q75_s"].min() < others["q25_s"].min():
                won.append(str(d))
            best = others.loc[others["median_s"].idxmin()]
            times = ratio(best["median_s"] / svd["median_s"].min())
            last = f"at d = {d} the best other, {best['method']}, takes {times} their time"
        if last:
            where_won = f"d = {', '.join(won)}" if won else "no size"
            found.append(f"{operation:8} the factors are clearly fastest at {where_won}; {last}")
    return found


def draw(folder: Path, timed: "pd.DataFrame") -> list[Path]:
    """Write ``step_time.png``, a panel for each operation; returns its path."""
    operations = [op for op in FORMULAS if op in set(timed["operation"])]
    operations += sorted(set(timed["operation"]) - set(FORMULAS))
    columns = min(2, len(operations))
    lines = -(-len(operations) // columns)
    figure = Figure(figsize=(1.2 + 4.6 * columns, 0.8 + 3.3 * lines), layout="constrained", dpi=160)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    sizes = sorted(set(timed["d"]))
    kinds = sorted(set(timed["kind"]) - {BASELINE})
    for axes, operation in zip(grid, operations, strict=False):
        rows = timed[timed["operation"] == operation]
        for method in slowest_first(rows):
            draw_times(axes, rows, method, _style(rows, method, kinds))
        dress(axes, sizes)
        axes.tick_params(labelbottom=True)
        axes.set_title(_title(operation), loc="left", fontsize=10)
        axes.legend(frameon=False, fontsize=8.5, loc="upper left")
    for axes in grid[len(operations) :]:
        axes.set_axis_off()
    first = timed.iloc[0]
    figure.suptitle(f"A step with its gradients, by the factors and dense  ({where(first)})")
    figure.supxlabel(f"d, W is d × d  (m = {quantity(first['m'], 'column')} in X)", fontsize=10)
    figure.supylabel("time of a step (median, quartile band)", fontsize=10)
    return save(folder, {"step_time.png": figure})


def _style(rows: "pd.DataFrame", method: str, kinds: list[str]) -> dict[str, Any]:
    """Colour by kind, mark within the kind; the factored way is thick and drawn last."""
    kind = rows.loc[rows["method"] == method, "kind"].iloc[0]
    members = sorted(set(rows.loc[rows["kind"] == kind, "method"]))
    style: dict[str, Any] = {"marker": MARKS[members.index(method) % len(MARKS)], "markersize": 5}
    if kind == BASELINE:
        return style | {"color": "black", "linewidth": 2.6, "zorder": 5}
    return style | {"color": HUES[kinds.index(kind) % len(HUES)], "linewidth": 1.5, "zorder": 3}


def _baseline_first(timed: "pd.DataFrame") -> list[str]:
    names = timed[["kind", "method"]].drop_duplicates()
    order = sorted((kind != BASELINE, method) for kind, method in names.itertuples(index=False))
    return [method for _, method in order]


def _title(operation: str) -> str:
    return FORMULAS.get(operation, operation)

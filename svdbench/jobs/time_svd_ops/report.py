"""The report of a ``time-svd-ops`` run: time at equal accuracy, by operation."""

from collections.abc import Iterator
from functools import partial

import pandas as pd
from matplotlib.figure import Figure

from svdbench.record.reader import RecordedRun
from svdbench.reporting.plots import dress, label_lines, panels
from svdbench.reporting.report import Lines, Report, Table, TableCell
from svdbench.reporting.styles import styles_of
from svdbench.reporting.words import power, quantity, ratio, seconds
from svdbench.timings import report as timings

BASELINE = "svd"  # the kind that the others are compared with
ERRORS = ["error", "grad_V_error", "grad_X_error"]
FORMULAS = {
    "inverse": "inverse, W⁻¹X",
    "logdet": "log-determinant, WX and log|det W|",
    "exp": "exponential, eᵂX",
    "cayley": "Cayley map, (I − W)(I + W)⁻¹X",
}
NOTE = (
    "time: median of a step; × svd: its ratio to the time through the factors; error: the "
    "worst relative one of its value and gradients against float64"
)


def report(run: RecordedRun) -> Report:
    found, step, timed = timings.report_of_steps(run, "matrix operations")
    tables = [table_of(str(operation), rows) for operation, rows in timed.groupby("operation")]
    if tables:
        tables[-1].note = NOTE
        found.figures["step_time"] = partial(step_time, timed)
    found.blocks += [*tables, Lines([*conclusions(timed), *timings.without_number(step)])]
    return found


def table_of(operation: str, timed: pd.DataFrame) -> Table:
    """A section for each size, a row for each method: time, ratio to the factored way, error."""
    table = Table.of(_title(operation), ["d", "method"], ["time", f"× {BASELINE}", "error"])
    for d, rows in timed.groupby("d"):
        base = rows.loc[rows["kind"] == BASELINE, "median_s"].min()
        by_method = rows.set_index("method")
        for method in filter(by_method.index.__contains__, _baseline_first(timed)):
            row = by_method.loc[method]
            compared = row["kind"] != BASELINE and base == base
            table.add(
                str(d),
                method,
                TableCell.number(row["median_s"], seconds),
                TableCell.number(row["median_s"] / base, ratio) if compared else "",
                TableCell.number(row[ERRORS].astype(float).max(), power),
            )
        table.end_section()
    return table


def conclusions(timed: pd.DataFrame) -> Iterator[str]:
    """Where the factored way is clearly the fastest, and the best other at the largest size.

    Clearly: its quartile band lies below that of every other. Less is a tie.
    """
    timed = timed[~timings.below_floor(timed)]
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
            last = f"at d = {d} the best other method, {best['method']}, takes {times} their time"
        if last:
            where_won = f"d = {', '.join(won)}" if won else "no size"
            yield f"{operation}: the factors are clearly fastest at {where_won}; {last}"


def step_time(timed: pd.DataFrame) -> Figure:
    """A panel for each operation."""
    operations = [op for op in FORMULAS if op in set(timed["operation"])]
    operations += sorted(set(timed["operation"]) - set(FORMULAS))
    sizes = sorted(set(timed["d"]))
    figure, grid = panels(
        len(operations), 2, (5.2, 3.3), (1.2, 0.8), sharex=len(sizes) > 1, sharey=len(sizes) > 1
    )
    for axes, operation in zip(grid, operations, strict=True):
        rows = timed[timed["operation"] == operation]
        styles = styles_of(sorted(set(rows["method"])))
        axes.set_title(_title(operation), loc="left", fontsize=10)
        if len(sizes) == 1:
            timings.draw_bars(axes, rows, styles)
            continue
        for method in timings.slowest_first(rows):
            timings.draw_times(axes, rows, method, styles[method])
        dress(axes, sizes)
        axes.tick_params(labelbottom=True)
    if len(sizes) > 1:
        for axes in grid:  # when the heights that they share are final
            label_lines(axes)
    first = timed.iloc[0]
    where = timings.where(first)
    figure.suptitle(f"Time of a step with its gradients, by the factors and dense  ({where})")
    columns = f"m = {quantity(first['m'], 'column')} in X"
    time = "time of a step (median, quartile band)"
    if len(sizes) > 1:
        figure.supxlabel(f"d, W is d × d  ({columns})", fontsize=10)
        figure.supylabel(time, fontsize=10)
    else:
        figure.supxlabel(f"d = {sizes[0]}, W is d × d, {columns}", fontsize=10)
    return figure


def _baseline_first(timed: pd.DataFrame) -> list[str]:
    names = timed[["kind", "method"]].drop_duplicates()
    order = sorted((kind != BASELINE, method) for kind, method in names.itertuples(index=False))
    return [method for _, method in order]


def _title(operation: str) -> str:
    return FORMULAS.get(operation, operation)

"""Tables and answers of a ``time-rnn`` run, from its ``summary.csv`` and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from svdbench.measure.quiet import voids_floor
from svdbench.record.reader import RecordedRun
from svdbench.report.rnn_plots import BASELINE, draw_all
from svdbench.report.tables import new_table, print_lines
from svdbench.reporting.words import ratio, seconds, share
from svdbench.timings.report import VOID, below_floor, disturbed, read_summary

if TYPE_CHECKING:
    import pandas as pd

# Whose time is told against others', and who these are; where W is made of reflectors,
# those of as many.
OURS, OTHERS = "spectral", ("rnn", "lstm", "reflectors", "fasth")
EXPECTED = ("slides_ops", "sequential_ops")

MEANING = """k: reflectors to a block; ops: matrix operations that wait for each other in a
forward loop, as counted and as the slides on FastH expect them
"""


def show_run(folder: Path, console: Console) -> None:
    """Print the tables and what follows from them, and draw the plots."""
    summary = read_summary(RecordedRun(folder))
    step = summary[summary["pass"] == "step"]
    timed = step[step["status"] == "ok"]
    print_lines(console, disturbed(step, ["length", "d"], place))
    for length, rows in timed.groupby("length"):
        console.print(times_table(rows, f"time of a step, T = {length}, and × {BASELINE}'s"))
    if len(timed):
        console.print(costs_table(timed))
        console.print(MEANING, highlight=False)
    sound = timed[~below_floor(timed)]
    print_lines(console, (*conclusions(sound), *expectations(sound), *without_number(step)))
    print_lines(console, draw_all(folder, timed))


def times_table(timed: "pd.DataFrame", title: str) -> Table:
    """Methods by hidden sizes of one length, fastest at the largest size first."""
    times = timed.pivot_table(index="method", columns="d", values="median_s")
    times = times.sort_values(list(times.columns)[::-1])
    table = new_table(title, ["method"], [f"n = {d}" for d in times.columns])
    for method, row in times.iterrows():
        cells = [_time(row[d], times[d].get(BASELINE)) for d in times.columns]
        table.add_row(str(method), *cells)
    floors = timed.drop_duplicates("d").set_index("d")["floor_s"]
    if floors.notna().all():
        table.add_section()
        void = set(timed.loc[below_floor(timed), "d"])
        cells = [VOID if d in void else seconds(floors[d]) for d in times.columns]
        table.add_row("floor, 6TBn²", *cells, style="dim")
    return table


def _time(value: float, base: float | None) -> str:
    if value != value:
        return "–"
    compared = "" if base is None or base != base else f"  {ratio(value / base)}"
    return f"{seconds(value)}{compared}"


def costs_table(timed: "pd.DataFrame") -> Table:
    """What a loop costs beside time, at the largest size and length."""
    largest = largest_of(timed).sort_values("median_s")
    columns = ["memory", "of floor", "k", "ops", "slides' ops"]
    table = new_table(f"at {place(largest.iloc[0])}", ["method"], columns)
    for row in largest.to_dict("records"):
        memory = row["peak_bytes"]
        table.add_row(
            row["method"],
            "–" if memory != memory else f"{memory / 2**20:,.0f} MiB",
            _of_floor(row["of_floor"]),
            *(_whole(row[column]) for column in ("block_size", "sequential_ops", "slides_ops")),
        )
    return table


def _of_floor(fraction: float) -> str:
    if voids_floor([fraction]):
        return VOID
    return "–" if fraction != fraction else share(fraction)


def _whole(value: float) -> str:
    return "–" if value != value else f"{value:,.0f}"


def conclusions(timed: "pd.DataFrame") -> Iterator[str]:
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


def expectations(timed: "pd.DataFrame") -> Iterator[str]:
    """What FastH at every step gains on reflectors one by one, expected and measured."""
    for _, cell in largest_of(timed[timed["n"] > 0]).groupby("n"):
        by_kind = {row["kind"]: row for row in cell.to_dict("records")}
        if not {"reflectors", "fasth"} <= set(by_kind):
            continue
        slow, fast = by_kind["reflectors"], by_kind["fasth"]
        gain = {name: slow[name] / fast[name] for name in (*EXPECTED, "median_s")}
        yield (
            f"{place(slow)}: from {slow['method']} to {fast['method']} "
            f"{ratio(gain['median_s'])} less time, where the slides expect "
            f"{ratio(gain['slides_ops'])} and a count of operations {ratio(gain['sequential_ops'])}"
        )


def largest_of(timed: "pd.DataFrame") -> "pd.DataFrame":
    """The cell of the largest size and length."""
    longest = timed[timed["length"] == timed["length"].max()]
    return longest[longest["d"] == longest["d"].max()]


def without_number(step: "pd.DataFrame") -> Iterator[str]:
    """Why methods have no number."""
    for row in step[step["status"] != "ok"].to_dict("records"):
        yield f"{row['method']} {row['status']} at {place(row)}: {row['reason']}"


def place(row: Any) -> str:
    """The size of a row's cell."""
    return f"n = {row['d']}, T = {row['length']}"

"""What a ``compress`` run says: what is different, by how much, and what was saved."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from svdbench.report.compression_arms import STOCK, Compared, compare
from svdbench.report.compression_claims import claims
from svdbench.report.compression_plots import draw_all
from svdbench.report.side_by_side import difference, ended, failures, noise
from svdbench.report.tables import new_table, print_lines, read_table
from svdbench.reporting.claims import Claims
from svdbench.reporting.render import show_block
from svdbench.reporting.words import quantity, seconds, share
from svdbench.statistics.intervals import Interval

if TYPE_CHECKING:
    import pandas as pd


def show_run(folder: Path, console: Console) -> None:
    """Print the tables and what follows from them, and draw the plots."""
    if not (folder / "samples.csv").exists():
        return
    samples, summary, layers = (
        read_table(folder, name) for name in ("samples", "summary", "layers")
    )
    run = ended(samples, summary, STOCK)
    arms = compare(run)
    if not arms:
        print_lines(console, failures(summary, STOCK))
        return
    console.print(scores_table(arms, _title(run)))
    console.print(times_table(arms))
    lines = [_meaning(arms), *conclusions(arms), *alike(run), *failures(summary, STOCK)]
    print_lines(console, lines)
    console.print(savings_table(summary))
    print_lines(console, layers_kept(layers))
    found = claims(folder, run)
    if found:
        show_block(Claims(found), console)
    print_lines(console, draw_all(folder, run, arms))


def _title(run: "pd.DataFrame") -> str:
    row = run.iloc[0]
    every = str(row["every"])
    if every.isdecimal():
        every = quantity(int(every), "batch", "batches")
    epochs = quantity(run["epoch"].max(), "epoch")
    seeds = quantity(run["seed"].nunique(), "seed")
    return f"{row['dataset']}, {row['model']}, {epochs}, compressed every {every}, {seeds}"


def scores_table(arms: list[Compared], title: str) -> Table:
    """A line for each arm: error and loss on the test set, and how they differ from stock's."""
    columns = ["test error", "− stock, points", "test loss", "− stock"]
    table = new_table(title, ["arm"], columns)
    for arm in arms:
        error = difference(arm.error_difference, 100, ".2f")
        loss = difference(arm.loss_difference, 1, ".2g")
        own = (error, loss) if arm.name != STOCK else ("", "")
        table.add_row(arm.name, f"{100 * arm.error:.2f} %", own[0], f"{arm.loss:.3g}", own[1])
    return table


def times_table(arms: list[Compared]) -> Table:
    """A line for each arm: the time of an epoch, and what compressing adds to it."""
    table = new_table("time of training", ["arm"], ["epoch", "× stock", "compressing adds"])
    for arm in arms:
        own = (_ratio(arm.time_ratio), share(arm.added, 2)) if arm.name != STOCK else ("", "")
        table.add_row(arm.name, seconds(arm.epoch_s), *own)
    return table


def _ratio(interval: Interval) -> str:
    mark = " *" if interval.excludes(1) else "  "
    ends = "" if interval.count < 2 else f" ({interval.low:.2f}–{interval.high:.2f})"
    return f"{interval.mean:.2f}{ends}{mark}"


def _meaning(arms: list[Compared]) -> str:
    count = arms[0].error_difference.count
    adds = "; compressing adds: its time over that of the rest" if count > 1 else ""
    return noise(count) + adds


def conclusions(arms: list[Compared]) -> Iterator[str]:
    """A sentence for each arm, where there are intervals."""
    for arm in arms:
        if arm.name == STOCK or arm.error_difference.count < 2:
            continue
        error, ratio = arm.error_difference, arm.time_ratio
        points = f"{abs(100 * error.mean):.2f} points {'higher' if error.mean > 0 else 'lower'}"
        what = f"test error {points}, {_verdict(error, 0)}" if error.mean else "the same test error"
        pace = f"{ratio.mean:.2f} × the time of training, {_verdict(ratio, 1)}"
        yield f"{arm.name} against stock: {what}; {pace}"


def alike(run: "pd.DataFrame") -> Iterator[str]:
    """Arms that can't be told apart, as random probes that span everything are exact."""
    losses = run.pivot_table(index=["seed", "epoch"], columns="arm", values="loss", sort=False)
    for one, other in combinations(losses.columns, 2):
        if np.allclose(losses[one], losses[other], rtol=1e-5, atol=0):
            yield f"{one} and {other} have the same losses in every epoch, to five digits"


def _verdict(interval: Interval, nothing: float) -> str:
    return "more than noise" if interval.excludes(nothing) else "within noise"


def savings_table(summary: "pd.DataFrame") -> Table:
    """What inference takes with factors where they save, and what that is of stock's."""
    columns = [
        "parameters",
        "multiply-adds",
        "bytes",
        f"batch of {summary['latency_batch'].iloc[0]}",
    ]
    title = "inference, with factors where they save"
    table = new_table(title, ["arm"], columns)
    first = summary.drop_duplicates("arm")
    base = first[first["arm"] == STOCK].iloc[0]
    for row in first.to_dict("records"):
        latency = row["latency_s"]
        table.add_row(
            row["arm"],
            _of(row["n_params"], base["n_params"], f"{row['n_params']:,}"),
            _of(row["macs"], base["macs"], f"{row['macs']:,}"),
            f"{row['bytes']:,}",
            "–" if latency != latency else _of(latency, base["latency_s"], seconds(latency)),
        )
    return table


def _of(value: float, base: float, text: str) -> str:
    return text if value == base or base != base else f"{text} {100 * (value / base - 1):+.0f} %"


def layers_kept(layers: "pd.DataFrame") -> Iterator[str]:
    """What became of each weight, a line for each rank that weights were brought to."""
    told: set[str] = set()
    for arm, rows in layers[layers["arm"] != STOCK].groupby("arm", sort=False):
        line = "; ".join(_layer(row) for row in rows.to_dict("records"))
        if line not in told:
            told.add(line)
            yield f"{arm}: {line}"


def _layer(row: Any) -> str:
    size = f"{row['rows']}×{row['columns']}"
    if row["kept"] != row["kept"]:
        return f"{size} {row['reason']}"
    if row["form"] == "factors":
        return f"{size} as factors, {row['numbers']:,} of {row['dense_numbers']:,} numbers"
    factors = int(row["kept"]) * (row["rows"] + row["columns"])
    return f"{size} dense at rank {row['kept']:.0f}, its factors would have {factors:,} numbers"

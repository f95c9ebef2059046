"""A promised figure, whether it is kept, and the table of all of them in ``figures.csv``."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from svdbench.errors import UserError
from svdbench.reporting.render import print_lines, show_block
from svdbench.reporting.report import Table, TableCell

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "fasth"


@dataclass(frozen=True)
class Promise:
    """A promise: ``measured`` at least, or at most, ``target``; None: not measured."""

    what: str
    d: int | None
    measured: float | None
    at_least: bool
    target: float

    @property
    def kept(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.target if self.at_least else self.measured <= self.target


def measure_parts(
    job: str, parts: Mapping[str, Callable[[Path], list[Promise]]], chosen: Sequence[str]
) -> None:
    """Measure the parts chosen, or all, in ``results/<job>/<time>``, with verdicts after each.

    Args:
        parts: by name; each writes its runs into the folder and returns its figures.

    Raises:
        UserError: a part that there is none of.
    """
    unknown = set(chosen) - set(parts)
    if unknown:
        raise UserError(f"no part is called {unknown.pop()!r}: choose from {', '.join(parts)}")
    folder = Path("results") / job / datetime.now().strftime("%Y%m%d-%H%M%S")
    figures: list[Promise] = []
    for name in chosen or parts:
        figures += parts[name](folder)
        finish(figures, folder)


def finish(figures: Sequence[Promise], folder: Path) -> None:
    """Write ``figures.csv`` into ``folder`` and print the verdicts."""
    path = write_figures(figures, folder)
    console = Console()
    show_figures(figures, console)
    print_lines(console, [path])


def write_figures(figures: Sequence[Promise], folder: Path) -> Path:
    """Write ``figures.csv`` into ``folder``; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "figures.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["figure", "d", "measured", "bound", "target", "kept"])
        for f in figures:
            bound = "at least" if f.at_least else "at most"
            measured = None if f.measured is None else f"{f.measured:.4g}"
            writer.writerow([f.what, f.d, measured, bound, f.target, f.kept])
    return path


def show_figures(figures: Sequence[Promise], console: Console) -> None:
    """Print the verdicts."""
    show_block(_table(figures), console)


def ratios(step: "pd.DataFrame") -> "pd.DataFrame":
    """Times of a step over FastH's, d by method; NaN where either has none.

    Args:
        step: rows of ``summary.csv`` of one dtype and m: passes "step" with status "ok".
    """
    times = step.pivot_table(index="d", columns="method", values="median_s")
    base = times[BASELINE] if BASELINE in times else float("nan")
    return times.div(base, axis=0)


def at_least(
    what: str, ratio: "pd.DataFrame", method: str, targets: Mapping[int, float]
) -> list[Promise]:
    """A figure for each d of ``targets``: how many times FastH's time ``method`` takes."""
    return [
        Promise(what, d, value(ratio, d, method), True, target) for d, target in targets.items()
    ]


def value(frame: "pd.DataFrame", row: int, column: str) -> float | None:
    """The number in that place; None where there is no such place, or it is empty."""
    if row not in frame.index or column not in frame:
        return None
    found = float(frame.loc[row, column])
    return None if found != found else found


def _table(figures: Sequence[Promise]) -> Table:
    numbers = ["d", "measured", "promised"]
    table = Table.of("promised and measured", ["figure"], numbers, more_words=[""])
    verdicts = {
        True: TableCell("kept", "good"),
        False: TableCell("missed", "bad"),
        None: TableCell("not measured"),
    }
    for f in figures:
        table.add(
            f.what,
            str(f.d or ""),
            "" if f.measured is None else f"{f.measured:.3g}",
            f"{'≥' if f.at_least else '≤'} {f.target:g}",
            verdicts[f.kept],
        )
    return table

"""Reading a run's tables, and tables for people, where no report is data yet."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD

from svdbench.record.reader import RecordedRun
from svdbench.record.resumption import read_versions
from svdbench.reporting.render import FittedTable, print_lines

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["new_table", "print_lines", "read_table", "several_versions"]


def read_table(folder: Path, name: str) -> "pd.DataFrame":
    """The rows of ``name``.csv of a run, numbers as numbers; only empty cells are missing."""
    return RecordedRun(folder).frame(name)


def new_table(
    title: str | None,
    words: Iterable[str],
    numbers: Iterable[str],
    *,
    keys: int | None = None,
    **style: Any,
) -> FittedTable:
    """An empty table: columns of words on the left, then columns of numbers.

    Args:
        keys: how many of the first columns say what a row is of; by default those of words.
        style: further arguments of ``rich.table.Table``.
    """
    words = list(words)
    style = {"title_justify": "left", "title_style": "bold", "box": SIMPLE_HEAD} | style
    table = FittedTable(title=title, keys=len(words) if keys is None else keys, **style)
    for name in words:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def several_versions(folder: Path) -> Iterator[str]:
    """A line where more than one version of svdbench wrote a run or the runs of a sweep."""
    if len(versions := read_versions(folder)) > 1:
        yield (
            f"beware: {len(versions)} versions of svdbench made this run, "
            f"{' and '.join(versions)}; the column version of the tables says which row"
        )

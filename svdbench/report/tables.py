"""What all reports share: reading a run's tables, and writing tables and lines for people."""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table

from svdbench.errors import UserError, one_line
from svdbench.files import configuration
from svdbench.record.store import read_versions

if TYPE_CHECKING:
    import pandas as pd


def read_table(folder: Path, name: str) -> "pd.DataFrame":
    """The rows of ``name``.csv of a run, numbers as numbers; only empty cells are missing."""
    import pandas as pd

    return pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])


def read_configuration(folder: Path) -> dict[str, Any]:
    """The configuration of a run, flat: ``{"model.m1": 16, …}``.

    Raises:
        UserError: it can't be read.
    """
    path = folder / "config.yaml"
    try:
        return configuration(path)
    except OSError as error:
        raise UserError(f"can't read {path}: {one_line(error)}: check the path") from error
    except ValueError as error:
        raise UserError(f"{path} {error}: repair or delete it") from error


class FittedTable(Table):
    """A table that shows every number whole, however narrow the console.

    Where it is too wide, its words are wrapped; where that isn't enough, the columns that
    don't fit follow below, under the same first columns.

    Args:
        keys: the first columns, so many, that say what a row is of.
    """

    def __init__(self, *, keys: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.keys = keys

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unbounded = console.options.update(width=100_000)
        if Measurement.get(console, unbounded, self).maximum <= options.max_width:
            yield from super().__rich_console__(console, options)
        else:
            for part in self._parts(console, options.max_width):
                yield from Table.__rich_console__(part, console, options)

    def _parts(self, console: Console, width: int) -> Iterator["FittedTable"]:
        """Tables of some of the columns each, all with the key columns; the first has the title."""
        every = range(len(self.columns))
        for most in (width // 2, width // 4):  # words are broken where that saves a second table
            sizes = [_size(column, console, most) for column in self.columns]
            if fits := self._width(every, sizes) <= width:
                break
        if not fits:
            sizes = [_size(column, console, width // 2) for column in self.columns]
        columns = [
            replace(column, min_width=size, overflow="fold")
            if column.justify == "right"
            else replace(column, no_wrap=False, overflow="fold")
            for column, size in zip(self.columns, sizes, strict=True)
        ]
        title, rest = self.title, list(range(self.keys, len(columns)))
        while True:
            count = len(rest)
            while count > 1 and self._width([*range(self.keys), *rest[:count]], sizes) > width:
                count -= 1
            part = copy(self)
            part.title, title = title, None
            shown = [*range(self.keys), *rest[:count]]
            part.columns = [replace(columns[i], _index=at) for at, i in enumerate(shown)]
            yield part
            rest = rest[count:]
            if not rest:
                return

    def _width(self, shown: Sequence[int], sizes: Sequence[int]) -> int:
        """Of so many columns, the least: with padding, a blank between them, and edges."""
        _, right, _, left = self.padding
        return sum(sizes[i] + left + right + 1 for i in shown) + 1


def _size(column: Column, console: Console, most: int) -> int:
    """The least width of a column: of a number all of it, of words the longest, or ``most``."""
    unbounded = console.options.update(width=100_000)
    cells = [Measurement.get(console, unbounded, c) for c in (column.header, *column.cells)]
    if column.justify == "right":
        return max(cell.maximum for cell in cells)
    return min(max(cell.minimum for cell in cells), max(8, most))


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


def print_lines(console: Console, lines: Iterable[object]) -> None:
    """Print sentences and paths to the letter, each a line however wide the console is."""
    for line in lines:
        console.print(str(line), highlight=False, soft_wrap=True, markup=False)

"""What all reports share: reading a run's tables, and writing tables and lines for people."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from svdbench.errors import UserError, one_line
from svdbench.reading import configuration
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


def new_table(
    title: str | None, words: Iterable[str], numbers: Iterable[str], **style: Any
) -> Table:
    """An empty table: columns of words on the left, then columns of numbers; none is wrapped.

    Args:
        style: further arguments of ``rich.table.Table``.
    """
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, **style)
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

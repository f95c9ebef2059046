"""A report as data: tables, sentences, claims, and figures that are drawn when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from svdbench.reporting.metrics import MetricValue
from svdbench.reporting.words import known

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Style = Literal["", "strong", "dim", "good", "bad", "warn"]


@dataclass(frozen=True)
class TableCell:
    """Text with a style, and a second line in smaller type.

    Attributes:
        value: the number that the text writes, not rounded; None of words.
    """

    text: str
    style: Style = ""
    below: str = ""
    value: float | None = None

    @classmethod
    def number(cls, value: float, form: Callable[[float], str], style: Style = "") -> TableCell:
        """A number as ``form`` writes it; a dash where it is not known."""
        return cls(known(value, form), style, value=value)


@dataclass(frozen=True)
class TableColumn:
    """A column of words, or of numbers, which are aligned on the right and never broken."""

    name: str
    numbers: bool = False


@dataclass
class TableRow:
    """Cells, and the style of those without one of their own."""

    cells: list[TableCell]
    style: Style = ""
    ends_section: bool = False


@dataclass
class Table:
    """Rows of text under named columns.

    Attributes:
        keys: how many of the first columns say what a row is of; they stand in front of each
            part of a table that is wider than the page.
        note: explains the table, below it.
    """

    title: str
    columns: list[TableColumn]
    keys: int
    note: str = ""
    rows: list[TableRow] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        title: str,
        words: Iterable[str],
        numbers: Iterable[str],
        *,
        keys: int | None = None,
        more_words: Iterable[str] = (),
        note: str = "",
    ) -> Table:
        """An empty table: columns of words, of numbers, and of words again."""
        first = [TableColumn(name) for name in words]
        rest = [TableColumn(name, numbers=True) for name in numbers]
        columns = [*first, *rest, *map(TableColumn, more_words)]
        return cls(title, columns, len(first) if keys is None else keys, note)

    def add(self, *cells: str | TableCell | MetricValue, style: Style = "") -> None:
        """Add a row; ``style`` applies to cells without one of their own."""
        made = [_cell(cell) for cell in cells]
        if len(made) != len(self.columns):
            raise ValueError(f"{len(made)} cells for {len(self.columns)} columns of {self.title}")
        self.rows.append(TableRow(made, style))

    def end_section(self) -> None:
        """Separate the rows added so far from the following ones."""
        if self.rows:
            self.rows[-1].ends_section = True


def _cell(cell: str | TableCell | MetricValue) -> TableCell:
    if isinstance(cell, MetricValue):
        return TableCell(cell.text, value=cell.value)
    return TableCell(cell) if isinstance(cell, str) else cell


class Lines(list[str]):
    """Sentences, each a line, never wrapped in a file.

    Attributes:
        style: of all of them.
        wrap: whether a terminal may break them, between words.
    """

    def __init__(self, lines: Iterable[str] = (), style: Style = "", *, wrap: bool = True) -> None:
        super().__init__(lines)
        self.style, self.wrap = style, wrap


class Group(Protocol):
    """Tables and lines that belong together, such as claims and what they mean."""

    def blocks(self) -> Iterable[Table | Lines]:
        """Its parts, in the order in which they are read."""


@dataclass
class Report:
    """The content of a report, made from a run's tables and nothing else.

    Attributes:
        headline: the result in a line, made of ``metrics``: the last line on a terminal, the
            first of a page, and the run's line in the list of all runs.
        blocks: in the order in which they are read.
        figures: name ↦ draws it; the renderer chooses the format.
        frames: what the tables were made of, for callers.
        closing: lines below the paths of the figures, as a command to copy.
        warnings: what makes the numbers doubtful, as other processes; they come first.
        metrics: the numbers of the report, each once, not rounded.
        tone: the style of the headline.
    """

    title: str
    headline: str = ""
    blocks: list[Table | Lines | Group] = field(default_factory=list)
    figures: dict[str, Callable[[], Figure]] = field(default_factory=dict)
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    closing: Lines = field(default_factory=Lines)
    warnings: list[str] = field(default_factory=list)
    metrics: list[MetricValue] = field(default_factory=list)
    tone: Style = "strong"

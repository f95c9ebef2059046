"""A report on a terminal, as Markdown, and as picture files."""

import re
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

from svdbench.record.resumption import read_versions
from svdbench.reporting.plots import save
from svdbench.reporting.report import Group, Lines, Report, Style, Table, TableCell

RICH_STYLES: dict[Style, str] = {
    **{"": "", "strong": "bold", "dim": "dim"},
    **{"good": "green", "bad": "bold red", "warn": "yellow"},
}
# A note below a table is wrapped at so many characters, however wide the terminal.
NOTE_WIDTH = 88


def screen() -> Console:
    """Standard output as it is now, in a notebook too, where rich would display HTML beside it."""
    return Console(force_jupyter=False)


def show_run(report: Report, folder: Path, console: Console) -> None:
    """Print a report, save its figures in the run's folder and print where they are."""
    show(report, console)
    print_lines(console, save_figures(report, folder))
    print_lines(console, report.closing)


def save_figures(report: Report, folder: Path) -> list[Path]:
    """Draw each figure into a PNG, whole or not at all; returns the paths."""
    return save(folder, {f"{name}.png": draw() for name, draw in report.figures.items()})


def show(report: Report, console: Console) -> None:
    """Print what a report warns of, its blocks, and its headline last, where one looks."""
    print_lines(console, report.warnings, "warn", wrap=console.is_terminal)
    for block in report.blocks:
        show_block(block, console)
    if report.headline:
        print_lines(console, [report.headline], report.tone, wrap=console.is_terminal)


def to_text(report: Report, width: int = 100) -> str:
    """The blocks of a report as plain text."""
    console = Console(file=StringIO(), width=width)
    show(report, console)
    text = console.file
    assert isinstance(text, StringIO)
    return text.getvalue()


def to_html(report: Report, width: int = 120) -> str:
    """The blocks of a report as a piece of HTML, for a notebook; text is escaped."""
    console = Console(file=StringIO(), width=width, record=True)
    show(report, console)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def show_block(block: Table | Lines | Group, console: Console) -> None:
    if isinstance(block, Table):
        console.print(rich_table(block))
        if block.note:
            note = Text(block.note + "\n")
            console.print(note, width=min(NOTE_WIDTH, console.width))
    elif isinstance(block, Lines):
        print_lines(console, block, block.style, wrap=block.wrap and console.is_terminal)
    else:
        for part in block.blocks():
            show_block(part, console)


def print_lines(
    console: Console, lines: Iterable[object], style: Style = "", *, wrap: bool = False
) -> None:
    """Print sentences and paths to the letter, each a line however wide the console is."""
    for line in lines:
        console.print(Text(str(line), RICH_STYLES[style]), soft_wrap=not wrap)


def several_versions(folder: Path) -> Iterator[str]:
    """A line where more than one version of svdbench wrote a run or the runs of a sweep."""
    if len(versions := read_versions(folder)) > 1:
        yield (
            f"warning: {len(versions)} versions of svdbench made this run, "
            f"{' and '.join(versions)}; the column version says which rows"
        )


def rich_table(table: Table) -> "FittedTable":
    """The table as one of rich that never breaks a number."""
    head = any(column.name for column in table.columns)
    made = FittedTable(
        title=Text(table.title) if table.title else None,
        keys=table.keys,
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD if head else None,
        show_header=head,
        padding=(0, 1) if head else (0, 1, 0, 0),
        pad_edge=head,
    )
    for column in table.columns:
        justify = "right" if column.numbers else "left"
        made.add_column(Text(column.name), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in table.rows:
        cells = [_rich_cell(cell, cell.style or row.style) for cell in row.cells]
        made.add_row(*cells, end_section=row.ends_section)
    return made


def _rich_cell(cell: TableCell, style: Style) -> Text:
    text = Text(cell.text, RICH_STYLES[style])
    return text.append("\n" + cell.below, "dim") if cell.below else text


class FittedTable(RichTable):
    """A table that never breaks a number, however narrow the console.

    Where it is too wide, its columns move together; where that isn't enough, its words are
    wrapped; and the columns that still don't fit follow below, under the same first columns.

    Args:
        keys: the first columns, so many, that say what a row is of.
    """

    def __init__(self, *, keys: int = 1, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.keys = keys

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._fits(console, options.max_width):
            yield from super().__rich_console__(console, options)
            return
        tight = copy(self)
        tight.padding, tight.pad_edge = (0, 1, 0, 0), False
        if tight._fits(console, options.max_width):
            yield from RichTable.__rich_console__(tight, console, options)
            return
        for part in tight._parts(console, options.max_width):
            yield from RichTable.__rich_console__(part, console, options)

    def _fits(self, console: Console, width: int) -> bool:
        unbounded = console.options.update(width=100_000)
        return Measurement.get(console, unbounded, self).maximum <= width

    def _parts(self, console: Console, width: int) -> Iterator["FittedTable"]:
        """Tables of some of the columns each, all with the key columns; the first has the title."""
        every = range(len(self.columns))
        for most in range(width // 2, width // 4 - 1, -1):  # broken words save a second table
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
        """The least width of some columns, with padding, a blank between them, and edges."""
        _, right, _, left = self.padding
        return sum(sizes[i] + left + right + 1 for i in shown) + 1


def _size(column: Column, console: Console, most: int) -> int:
    """The least width of a column: the widest number, or the longest word up to ``most``."""
    unbounded = console.options.update(width=100_000)
    cells = [Measurement.get(console, unbounded, c) for c in (column.header, *column.cells)]
    if column.justify == "right":
        return max(cell.maximum for cell in cells)
    return min(max(cell.minimum for cell in cells), max(8, most))


def to_markdown(report: Report) -> str:
    """Warnings, headline and blocks in GitHub's flavour of Markdown; text stays text."""
    first = [f"> {escape_markdown(line)}" for line in report.warnings]
    first += [f"**{escape_markdown(report.headline)}**"] if report.headline else []
    blocks = map(_markdown, [*report.blocks, report.closing])
    return "\n\n".join(filter(None, (*first, *blocks))) + "\n"


def _markdown(block: Table | Lines | Group) -> str:
    if isinstance(block, Lines):
        return "\n".join(f"- {escape_markdown(line)}" for line in block if line)
    if not isinstance(block, Table):
        return "\n\n".join(map(_markdown, block.blocks()))
    head = [escape_markdown(column.name.replace("\n", " ")) for column in block.columns]
    marks = ["--:" if column.numbers else ":--" for column in block.columns]
    rows = [list(map(_markdown_cell, row.cells)) for row in block.rows]
    table = "\n".join(f"| {' | '.join(texts)} |" for texts in (head, marks, *rows))
    title, note = map(escape_markdown, (block.title, block.note))
    return "\n\n".join(filter(None, (f"{title}:" if title else "", table, note)))


def _markdown_cell(cell: TableCell) -> str:
    shown = escape_markdown(f"{cell.text} {cell.below}".strip().replace("\n", " "))
    return f"**{shown}**" if cell.style in ("strong", "bad") and shown else shown


def escape_markdown(text: str) -> str:
    """Text that stays text in Markdown."""
    return re.sub(r"([|\\`<>\[\]_*])", r"\\\1", text)

"""What a job's own report says of a run, and its plots, made anew from the run's tables.

Every job has a ``show_run(folder, console)`` that prints tables and sentences and draws plots.
Here it prints to a listener, on a copy of the run's files whose pictures become SVG.
"""

import re
import warnings
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from io import StringIO
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.errors import MarkupError
from rich.table import Table
from rich.text import Text

from svdbench.errors import one_line
from svdbench.files import belongs
from svdbench.record.reader import RecordedRun

# The module of svdbench.report for each job.
REPORTS = {
    "accelerate": "acceleration",
    "compress": "compression",
    "compress-model": "model_compression",
    "gradients": "gradients",
    "rank-reveal": "reveal",
    "time-fasth": "timing",
    "time-rnn": "rnn",
    "time-svd": "svd",
    "time-svd-ops": "svd_ops",
    "train": "training",
    "tune": "tuning",
}
NEEDED = ("*.csv", "*.yaml", "*.json")
STYLES = {"bold", "dim", "red", "green", "yellow"}
# An SVG of more is slow to show; the PNG beside it is not.
MOST_BYTES = 2_000_000


@dataclass(frozen=True)
class Cell:
    """Text with the names of its styles."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: ``right`` says which columns are aligned so."""

    title: str
    head: list[str]
    right: list[bool]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Picture:
    """A plot, as a ``data:`` address that holds all of it; whether it is twice as wide as high."""

    name: str
    address: str
    wide: bool


@dataclass
class Findings:
    """Tables and sentences in the order of the report, then its plots; and what went wrong."""

    blocks: list[Grid | list[str]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Listener(Console):
    """A console that keeps what it is given to print."""

    def __init__(self) -> None:
        super().__init__(file=StringIO())
        self.heard: list[Table | str] = []

    def print(self, *objects: Any, markup: bool | None = None, **options: Any) -> None:
        for thing in objects:
            if isinstance(thing, Table):
                self.heard.append(thing)
            else:
                text = str(thing) if markup is False else _text(thing).plain
                self.heard += text.strip().splitlines()


class _VectorFolder(type(Path())):  # type: ignore[misc]
    """A folder in which a picture is drawn as SVG, whatever format it is named after."""

    def __truediv__(self, name: Any) -> Any:
        return super().__truediv__(str(name).removesuffix(".png") + ".svg" * _is_png(name))


def _is_png(name: Any) -> bool:
    return str(name).endswith(".png")


def findings(run: RecordedRun) -> Findings:
    """What the run's own report says, with plots; those in its folder where none can be drawn."""
    found = Findings()
    module = REPORTS.get(run.job)
    with TemporaryDirectory() as scratch:
        # Of sweeps only trainings are reported together; the others' runs are.
        reported = not run.swept or run.job == "train"
        if module is not None and run.summary is not None and reported:
            listener = _Listener()
            try:
                _report(module, run.folder, scratch, listener)
            except Exception as error:  # files of any kind and age: what there is, is shown
                found.notes.append(
                    f"the report of {run.job} can't be made of these files "
                    f"({type(error).__name__}: {one_line(error)})"
                )
            found.blocks = list(_blocks(listener.heard, scratch))
        drawn = {path.stem: path for path in _by_age(Path(scratch), "*.svg")}
        kept = {path.stem: path for path in _by_age(run.folder, "*.png")}
        for name, path in (drawn | {n: p for n, p in kept.items() if n not in drawn}).items():
            chosen = kept[name] if name in kept and path.stat().st_size > MOST_BYTES else path
            try:
                found.pictures.append(_picture(name, chosen))
            except OSError as error:
                found.notes.append(f"{chosen.name} can't be read: {error.strerror}")
    return found


def _report(module: str, folder: Path, scratch: str, console: Console) -> None:
    import matplotlib

    show_run = import_module(f"svdbench.report.{module}").show_run
    # Of a sweep, its runs as well.
    for pattern in (*NEEDED, *(f"*/{needed}" for needed in NEEDED)):
        for path in (one for one in folder.glob(pattern) if belongs(one, folder)):
            copy = Path(scratch) / path.relative_to(folder)
            copy.parent.mkdir(exist_ok=True)
            copyfile(path, copy)
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "svdbench"}):
        warnings.simplefilter("ignore")
        show_run(_VectorFolder(scratch), console)


def _blocks(heard: list[Table | str], scratch: str) -> Iterator[Grid | list[str]]:
    """Tables, and the sentences between them together; but for the paths of the plots."""
    lines: list[str] = []
    for thing in heard:
        if isinstance(thing, Table):
            if lines:
                yield lines
            lines = []
            yield _grid(thing)
        elif thing and not thing.startswith(scratch):
            lines.append(thing)
    if lines:
        yield lines


def _grid(table: Table) -> Grid:
    of_rows = [str(row.style or "") for row in table.rows]
    columns = [
        [_cell(cell, style) for cell, style in zip(column.cells, of_rows, strict=True)]
        for column in table.columns
    ]
    return Grid(
        title=_text(table.title or "").plain,
        head=[_text(column.header).plain for column in table.columns],
        right=[column.justify == "right" for column in table.columns],
        rows=[list(row) for row in zip(*columns, strict=True)],
    )


def _cell(cell: Any, of_row: str) -> Cell:
    text = _text(cell)
    words = " ".join([of_row, *(str(span.style) for span in text.spans)]).split()
    return Cell(text.plain.strip(), " ".join(word for word in words if word in STYLES))


def _text(thing: Any) -> Text:
    """With the styles of its markup; what has brackets that are none, as it stands."""
    if isinstance(thing, Text):
        return thing
    try:
        return Text.from_markup(str(thing))
    except MarkupError:
        return Text(str(thing))


def _by_age(folder: Path, pattern: str) -> list[Path]:
    """Plots in the order in which they were drawn."""
    paths = [path for path in folder.glob(pattern) if belongs(path, folder)]
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))


def _picture(name: str, path: Path) -> Picture:
    data = path.read_bytes()
    if path.suffix == ".svg":
        sides = re.findall(rb'(?:width|height)="([\d.]+)pt"', data[:2000])
    else:
        sides = [int.from_bytes(data[at : at + 4], "big") for at in (16, 20)]
    width, height = (*map(float, sides), 0.0, 0.0)[:2]
    kind = "svg+xml" if path.suffix == ".svg" else "png"
    address = f"data:image/{kind};base64,{b64encode(data).decode()}"
    return Picture(name, address, wide=width >= 2 * height)

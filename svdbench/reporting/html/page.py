"""The pages: of one run or several, and the list of all. Everything from files is escaped."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.resources import files
from itertools import islice
from os import fsencode
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from svdbench.record.reader import Ending, RecordedRun, endings, progress
from svdbench.reporting.formats import parts
from svdbench.reporting.html.columns import Payload, payload
from svdbench.reporting.report import Lines, Report, Table
from svdbench.reporting.words import integer, number, quantity

if TYPE_CHECKING:
    from jinja2 import Environment
import re
import warnings
from io import BytesIO

import matplotlib
from matplotlib.figure import Figure

from svdbench.errors import one_line
from svdbench.files import belongs

# An SVG of more is slow to show.
MOST_BYTES = 2_000_000


@dataclass(frozen=True)
class Picture:
    """A figure as a ``data:`` address, and whether it is at least twice as wide as high."""

    name: str
    address: str
    wide: bool


def pictures(report: Report, run: RecordedRun) -> list[Picture]:
    """The figures of a report, then those in the run's folder that it doesn't draw.

    A figure that can't be drawn becomes a note of the run, and its file is shown if there is one.
    """
    found = []
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "svdbench"}):
        warnings.simplefilter("ignore")
        for name, draw in report.figures.items():
            try:
                found.append(_drawn(name, draw()))
            except Exception as error:  # files of any kind and age
                reason = f"{type(error).__name__}: {one_line(error)}"
                run.notes.append(f"{name} can't be drawn from these files ({reason})")
    known = {picture.name for picture in found}
    for path in _by_age(run.folder):
        if path.stem not in known:
            try:
                found.append(_picture(path.stem, path.read_bytes()))
            except OSError as error:
                run.notes.append(f"{path.name} can't be read: {error.strerror}")
    return found


def _drawn(name: str, figure: Figure) -> Picture:
    file = BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    if file.tell() > MOST_BYTES:
        file = BytesIO()
        figure.savefig(file, format="png")
    return _picture(name, file.getvalue())


def _by_age(folder: Path) -> list[Path]:
    """The PNG files of a folder, the oldest first."""
    paths = [path for path in folder.glob("*.png") if belongs(path, folder)]
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))


def _picture(name: str, data: bytes) -> Picture:
    if data.startswith(b"\x89PNG"):
        kind = "png"
        width, height = (float(int.from_bytes(data[at : at + 4], "big")) for at in (16, 20))
    else:
        kind = "svg+xml"
        sides = re.findall(rb'(?:width|height)="([\d.]+)pt"', data[:2000])
        width, height = (*map(float, sides), 0.0, 0.0)[:2]
    address = f"data:image/{kind};base64,{b64encode(data).decode()}"
    return Picture(name, address, wide=width >= 2 * height)


REPORT = "report.html"
MOST_FILES = 200
# Levels of an environment that are shown separately.
DEEPEST = 4


@dataclass(frozen=True)
class Repeat:
    """The command that repeats a run, None if unknown, and notes about it."""

    command: str | None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunPage:
    """The content of the page of a run."""

    run: RecordedRun
    progress: str
    endings: list[Ending]
    headline: str
    warnings: list[str]
    blocks: list[Table | Lines]
    pictures: list[Picture]
    tables: list[tuple[str, Payload]]
    repeat: Repeat
    environment: list[tuple[str, str]]
    files: list[tuple[str, str, int]]


@dataclass(frozen=True)
class RunLine:
    """A run in the list of all runs, with a link to its page or folder."""

    run: RecordedRun
    progress: str
    well: bool
    headline: str
    link: str
    warnings: int


def run_page(run: RecordedRun, report: Report, repeat: Repeat, place: Path) -> RunPage:
    """The page of a run, to be written into the folder ``place``; draws the figures."""
    return RunPage(
        run=run,
        progress=progress(run),
        endings=endings(run),
        headline=report.headline,
        warnings=report.warnings,
        blocks=[part for part in parts(report) if isinstance(part, Table) or any(part)],
        pictures=pictures(report, run),
        tables=[(sheet.name, payload(sheet, run.job)) for sheet in run.sheets],
        repeat=repeat,
        environment=list(_flat(run.environment)),
        files=list(islice(_files(run.folder, place), MOST_FILES)),
    )


def run_line(run: RecordedRun, report: Report, place: Path) -> RunLine:
    """The line of a run in a list that is written into the folder ``place``."""
    page = run.folder / REPORT
    link = _link(page, place) if page.is_file() else f"{_link(run.folder, place)}/"
    well = bool(run.sheets) and not endings(run)
    return RunLine(run, progress(run), well, report.headline, link, len(report.warnings))


def render(views: Sequence[RunPage]) -> str:
    """The page of one run or of several."""
    run = views[0].run
    title = f"{run.job} {run.name}" if len(views) == 1 else f"{len(views)} runs"
    return fill("run.html", title=title, views=views, device=device)


def render_index(lines: Sequence[RunLine], root: Path) -> str:
    """The list of all runs of a folder."""
    return fill("index.html", title=f"Runs in {root.name}", lines=lines, device=device)


def fill(template: str, **values: Any) -> str:
    """Fill a template of this folder, with the style and the script of all pages."""
    style, script = (_asset(name) for name in ("page.css", "page.js"))
    return (
        _templates()
        .get_template(template)
        .render(style=style, script=script, policy=_policy(style, script), **values)
    )


@cache
def _templates() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("svdbench.reporting.html", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> str:
    return files("svdbench.reporting.html").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """A content security policy: this style, this script, inline pictures and no network."""
    hashes = [b64encode(sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; "
        f"script-src 'sha256-{hashes[1]}'; base-uri 'none'; form-action 'none'"
    )


def device(run: RecordedRun) -> str:
    """The processor and its threads, or the GPU, that a run used."""
    first = next(run.summary.records(), {}) if run.summary else {}
    gpus = run.environment.get("gpus")
    if first.get("device", "cpu").startswith("cuda"):
        named = first.get("device_name") or (gpus[0] if isinstance(gpus, list) and gpus else "")
        return str(named or first["device"])
    threads = first.get("threads") or run.environment.get("threads")
    count = "" if threads is None else f", {_threads(threads)}"
    return f"{run.environment.get('cpu') or 'cpu'}{count}"


def _threads(count: object) -> str:
    """A number of threads in words; anything else as the file has it."""
    text = str(count)
    known = text.isdecimal() and len(text) < 10
    return quantity(int(text), "thread") if known else f"{text[:10]} threads"


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """``("caches.L2", "2048K"), …``; what was not found is left out."""
    for key, value in tree.items():
        if isinstance(value, dict) and above.count(".") < DEEPEST:
            yield from _flat(value, f"{above}{key}.")
        elif value not in (None, [], ""):
            shown = ", ".join(map(_short, value)) if isinstance(value, list) else _short(value)
            yield f"{above}{key}", shown


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return "…"
    return integer(value) if isinstance(value, int) else str(value)


def _files(folder: Path, place: Path) -> Iterator[tuple[str, str, int]]:
    """Address, name and size of a run's files, without its report and hidden files."""
    for path in sorted(folder.rglob("*"), key=lambda path: (len(path.parts), path)):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != REPORT and not name.startswith("."):
            yield _link(path, place), name, path.stat().st_size


def _link(path: Path, place: Path) -> str:
    return quote(fsencode(Path(relpath(path.resolve(), place.resolve())).as_posix()))

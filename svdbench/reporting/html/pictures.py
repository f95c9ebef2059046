"""The figures of a report for a page: as SVG, and where that is too large as PNG."""

import re
import warnings
from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from svdbench.errors import one_line
from svdbench.files import belongs
from svdbench.record.reader import RecordedRun
from svdbench.reporting.report import Report

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
                run.notes.append(f"{name} can't be drawn of these files ({reason})")
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

"""The evidence of a result: numbers with intervals, and curves; as CSV."""

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TypeVar

from scipy.stats import binomtest

from svdbench.errors import UserError
from svdbench.files import read_text, write_whole
from svdbench.reporting.words import quantity
from svdbench.statistics.intervals import (
    CONFIDENCE,
    Interval,
    mean_interval,
    paired_ratio,
    prediction_interval,
)

NUMBERS, CURVES = "numbers.csv", "curves.csv"
NUMBER_COLUMNS = ("number", "value", "low", "high", "count", "of")
ENOUGH = 5
LARGEST = 8 << 20  # bytes of a table
T = TypeVar("T", int, float)
CURVE_COLUMNS = ("figure", "series", "x", "value", "low", "high")


@dataclass(frozen=True)
class Number(Interval):
    """A measured number, in the unit that its name says; an exact one is its own interval.

    Attributes:
        of: what the interval is of, in a few words.
    """

    of: str


@dataclass(frozen=True)
class CurvePoint:
    """A point of a curve; ``low`` and ``high`` are the ends of its band, or None."""

    figure: str
    series: str
    x: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass
class Evidence:
    """All numbers, by name, and all curves of a result."""

    numbers: dict[str, Number] = field(default_factory=dict)
    curves: list[CurvePoint] = field(default_factory=list)

    def exact(self, name: str, value: float) -> None:
        """A number without noise: another run gives it again, but for rounding."""
        self.numbers[name] = Number(value, value, value, 1, "computed")

    def interval(self, name: str, found: Interval, of: str) -> None:
        """A number with its interval; left out if it is None.

        A few equal values, such as ranks, say nothing about how they vary.
        """
        if found.mean != found.mean:
            return
        low, high = found.low, found.high
        if low == high and found.count < ENOUGH:
            low, high = -math.inf, math.inf
        self.numbers[name] = Number(found.mean, low, high, found.count, of)

    def mean(
        self, name: str, values: Iterable[float], what: str = "seed", plural: str = ""
    ) -> None:
        """The mean of values, with the interval of the mean; of none, nothing."""
        if kept := _known(values):
            of = f"mean of {quantity(len(kept), what, plural)}"
            self.interval(name, mean_interval(kept), of)

    def geometric(self, name: str, values: Iterable[float], what: str = "seed") -> None:
        """The geometric mean of positive values, with its interval; of none, nothing."""
        if kept := _known(values):
            found = paired_ratio(kept, [1.0] * len(kept))
            self.interval(name, found, f"geometric mean of {quantity(len(kept), what)}")

    def one_more(self, name: str, values: Iterable[float], what: str = "seed") -> None:
        """The mean, with the interval of one more run: for numbers published of a single run."""
        if kept := _known(values):
            self.interval(
                name, prediction_interval(kept), f"one more run, from {quantity(len(kept), what)}"
            )

    def share(self, name: str, true: int, count: int, what: str = "seed") -> None:
        """A share of ``count``, with Wilson's interval (JASA 22, 1927)."""
        if not count:
            return
        low, high = binomtest(true, count).proportion_ci(CONFIDENCE, method="wilson")
        self.numbers[name] = Number(
            true / count, float(low), float(high), count, f"share of {quantity(count, what)}"
        )


def _known(values: Iterable[float]) -> list[float]:
    return [float(value) for value in values if value == value]


def numbers_csv(measured: Evidence) -> str:
    rows = [
        (name, _text(n.mean), _text(n.low), _text(n.high), n.count, n.of)
        for name, n in measured.numbers.items()
    ]
    return _csv(NUMBER_COLUMNS, rows)


def curves_csv(measured: Evidence) -> str:
    rows = [
        (p.figure, p.series, _text(p.x), _text(p.value), _text(p.low), _text(p.high))
        for p in measured.curves
    ]
    return _csv(CURVE_COLUMNS, rows)


def write(measured: Evidence, folder: Path) -> None:
    for name, text in ((NUMBERS, numbers_csv(measured)), (CURVES, curves_csv(measured))):
        write_whole(folder / name, text)


def read(folder: Path) -> Evidence:
    try:
        return Evidence(
            {row["number"]: _number(row) for row in rows(folder / NUMBERS, NUMBER_COLUMNS)},
            [_point(row) for row in rows(folder / CURVES, CURVE_COLUMNS)],
        )
    except OSError as error:
        raise UserError(f"can't read {error.filename}: {error.strerror}: check the path") from error
    except ValueError as error:
        raise UserError(f"{folder} has unexpected tables: {error}: delete it") from error


def _number(row: dict[str, str]) -> Number:
    value, low, high = (_read(float, row, key) for key in ("value", "low", "high"))
    return Number(value, low, high, _read(int, row, "count"), row["of"])


def _point(row: dict[str, str]) -> CurvePoint:
    low, high = (_read(float, row, key) if row[key] else None for key in ("low", "high"))
    x, value = (_read(float, row, key) for key in ("x", "value"))
    return CurvePoint(row["figure"], row["series"], x, value, low, high)


def _read(kind: Callable[[str], T], row: dict[str, str], key: str) -> T:
    try:
        return kind(row[key])
    except ValueError as error:
        raise ValueError(f"{key} is {row[key]!r:.40}, which is not a number") from error


def rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table.

    Raises:
        OSError: it can't be read, or is no regular file.
        ValueError: it is no table with these columns.
    """
    try:
        table = csv.DictReader(StringIO(read_text(path, LARGEST), newline=""))
        found = list(table)
    except csv.Error as error:
        raise ValueError(f"{path.name} is not a table: {error}") from error
    if missing := [name for name in columns if name not in (table.fieldnames or ())]:
        raise ValueError(f"{path.name} has no column {missing[0]}")
    for number, row in enumerate(found, start=1):
        if None in row or None in row.values():
            raise ValueError(f"{path.name} has more or fewer values in row {number} than columns")
    return found


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    return text.getvalue()


def _text(value: float | None) -> str:
    """Seven digits, which is more than any measurement has."""
    return "" if value is None else f"{value:.7g}"

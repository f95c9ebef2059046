"""Pairs the cells of two runs, with the values of each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from svdbench.jobs.compare.metrics import ComparedMetric, is_training
from svdbench.jobs.compare.runs import RUN, Row, Side

# What defines a cell, of all jobs, in the order in which people read it.
_TIMED = (
    *("method", "d", "n", "m", "k", "spectrum", "length", "inputs"),
    *("device", "dtype", "threads", "l2"),
)
_PLANNED = ("block_size", "panels", "plan_threads", "sweep")
_TRAINED = (
    *("model", "task", "dataset", "method", "arm", "hidden_size", "length", "batch_size"),
    *("optimizer", "lr", "orthogonal_lr", "device", "dtype", "threads", "processes"),
)
# Settings of trainings that may also be results; they distinguish cells where needed.
_MORE = ("rank", "alpha", "phi", "every", "kind", "epsilon", "budget", "multiple_of", RUN)

# Before the schema had these columns, they were understood: of timings, of trainings.
_UNDERSTOOD, _UNDERSTOOD_TRAINED = {"l2": "warm"}, {"processes": "1"}

What = dict[str, str]
Key = tuple[tuple[str, str], ...]


@dataclass
class Cell:
    """A cell of one side, with all that was written of it.

    Attributes:
        what: the columns that define it, those that its tables have.
        summary, samples: its rows; of several runs, if the side has several.
    """

    what: What
    summary: list[Row] = field(default_factory=list)
    samples: list[Row] = field(default_factory=list)

    @property
    def outcome(self) -> Row:
        """The row with its status: one without a value, if there is any."""
        return next((row for row in self.summary if row["status"] != "ok"), self.summary[0])

    def values(self, metric: ComparedMetric) -> tuple[list[float], list[str]]:
        """Values of a metric, and the cluster each was measured in."""
        rows = self.samples if metric.sampled else _of_step(self.summary)
        several = len({row[RUN] for row in rows}) > 1
        found = [(metric.cost(row), row) for row in rows]
        values = [value for value, _ in found if value is not None]
        together = [
            row[RUN] if several else row.get("round") or row.get("seed") or ""
            for value, row in found
            if value is not None
        ]
        return values, together


@dataclass
class Pairs:
    """The cells that both sides have, and those that only one has."""

    both: list[tuple[Cell, Cell]]
    only_a: list[Cell]
    only_b: list[Cell]


def pair(a: Side, b: Side, unequal: Iterable[str] = ()) -> Pairs:
    """Pair cells by identity; where schemas or machines differ, by their defining columns.

    Args:
        unequal: columns in which the sides differ as a whole; the user wants it so.
    """
    cells_a, cells_b = _cells(a), _cells(b)
    shared = [name for name in cells_a if name in cells_b]
    both = [(cells_a.pop(name), cells_b.pop(name)) for name in shared]
    unequal = set(unequal)
    if unequal or a.versions != b.versions:
        lookup: dict[Key, list[str]] = {}
        for name, cell in cells_b.items():
            lookup.setdefault(_key(cell.what, unequal), []).append(name)
        for name, cell in list(cells_a.items()):
            twins = lookup.get(_key(cell.what, unequal), [])
            if len(twins) == 1 and twins[0] in cells_b:
                both.append((cells_a.pop(name), cells_b.pop(twins[0])))
    for cell in (one for two in both for one in two):
        cell.what = {name: text for name, text in cell.what.items() if name not in unequal}
    return Pairs(both, list(cells_a.values()), list(cells_b.values()))


def families(
    pairs: Sequence[tuple[Cell, Cell]],
) -> Iterator[tuple[What, list[tuple[Cell, Cell]]]]:
    """Pairs of cells that differ in the seed only, by the columns that they share."""
    partner = {id(x): y for x, y in pairs}
    found: dict[Key, list[Cell]] = {}
    for more in range(len(_MORE) + 1):
        found = _grouped((x for x, _ in pairs), {*_MORE[more:], "seed"})
        if all(_unlike(group) for group in found.values()):
            break
    for key, group in found.items():
        yield dict(key), [(x, partner[id(x)]) for x in group]


def unpaired_groups(pairs: Pairs) -> Iterator[tuple[What, list[Cell], list[Cell]]]:
    """Of the cells that only one side has, those alike but for seeds of which none is shared.

    They are taken out of ``pairs``.
    """
    without = {*_MORE, "seed"}
    left_a, left_b = (_grouped(side, without) for side in (pairs.only_a, pairs.only_b))
    for key in list(left_a):
        if key in left_b and _unlike([*left_a[key], *left_b[key]]):
            yield dict(key), left_a.pop(key), left_b.pop(key)
    pairs.only_a = [cell for group in left_a.values() for cell in group]
    pairs.only_b = [cell for group in left_b.values() for cell in group]


def _grouped(cells: Iterable[Cell], without: Iterable[str]) -> dict[Key, list[Cell]]:
    found: dict[Key, list[Cell]] = {}
    for cell in cells:
        found.setdefault(_key(cell.what, without), []).append(cell)
    return found


def _cells(side: Side) -> dict[str, Cell]:
    """Cells by identity, in the order of the summary."""
    cells: dict[str, Cell] = {}
    for row in side.summary:
        if row["cell"] not in cells:
            cells[row["cell"]] = Cell(_what(row, is_training(side)))
        cells[row["cell"]].summary.append(row)
    for row in side.samples:
        if row["cell"] in cells:
            cells[row["cell"]].samples.append(row)
    return cells


def _what(row: Row, training: bool) -> What:
    if training:
        columns: tuple[str, ...] = (*_TRAINED, *_MORE, "seed")
    else:  # the block size of a timing is what the method chose, unless it is what is timed
        columns = (*_TIMED[:4], *(_PLANNED if "sweep" in row else ()), *_TIMED[4:])
    return {name: row[name] for name in columns if row.get(name)}


def _key(what: What, without: Iterable[str]) -> Key:
    understood = _UNDERSTOOD_TRAINED if "seed" in what else _UNDERSTOOD
    return tuple(item for item in (understood | what).items() if item[0] not in without)


def _unlike(cells: Sequence[Cell]) -> bool:
    """Whether all cells have different seeds."""
    return len({cell.what.get("seed") for cell in cells}) == len(cells)


def _of_step(rows: list[Row]) -> list[Row]:
    """The row of the whole step."""
    return [row for row in rows if row.get("pass") == "step"] or rows

"""Pairs the cells of two runs, and says whether their environments match where they must."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from svdbench.errors import UserError
from svdbench.jobs.compare.runs import RUN, ComparedMetric, Row, Side, is_training
from svdbench.reporting import words

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


Kind = Literal["must match", "informs", "state"]

# When each field of env.json must match. ``time``: times of two machines differ by the
# machines; losses and errors may be compared across them. ``cpu``: only where the CPU
# computes; ``unnamed``: only where a GPU does that the tables don't name. What is not listed
# informs.
_MUST = {"cpu": "time", "caches": "time cpu", "governor": "time cpu", "threads": "time cpu"}
_MUST |= {"gpus": "time unnamed"}
# True of the moment, not of the machine: never the same twice.
_STATE = ("timestamp_utc", "load_average", "source", "source_hash")
# Columns of the tables that must match: by all means, and where times are compared.
_COLUMNS = {"device": "", "dtype": "", "device_name": "time"}


class Mismatch(UserError):
    """The two runs are apples and oranges."""

    exit_code = 3


@dataclass(frozen=True)
class EnvironmentFact:
    """A fact about where the two runs happened.

    Attributes:
        name: of the field of ``env.json``, or of the column.
        kind: ``must match``, ``informs`` or ``state``.
        a, b: on either side, in words; None where it isn't known.
    """

    name: str
    kind: Kind
    a: str | None
    b: str | None

    @property
    def same(self) -> bool:
        return self.a == self.b

    @property
    def refused(self) -> bool:
        """Known to be different where it must not be."""
        return self.kind == "must match" and None not in (self.a, self.b) and not self.same


def fields(a: Side, b: Side, metrics: Iterable[ComparedMetric]) -> list[EnvironmentFact]:
    """Every fact of both environments with its kind, those that must match first."""
    true = {"time"} & {"time" for metric in metrics if metric.is_time}
    devices = a.values("device") | b.values("device")
    true |= {"cpu"} & devices
    if devices - {"cpu"} and not (a.values("device_name") and b.values("device_name")):
        true.add("unnamed")
    names = dict.fromkeys(name for side in (a, b) for env in side.environments for name in env)
    found = [
        EnvironmentFact(name, _kind(name, true), _of_environment(a, name), _of_environment(b, name))
        for name in names
    ]
    for name, when in _COLUMNS.items():
        values = [side.values(name) for side in (a, b)]
        # Cells on several devices pair by themselves; what must not be is none in common.
        if any(values):
            kind: Kind = "must match" if set(when.split()) <= true else "informs"
            shared = values[0] & values[1]
            texts = [", ".join(sorted(shared or own)) or None for own in values]
            found.append(EnvironmentFact(name, kind, *texts))
    return sorted(found, key=lambda field: field.kind != "must match")


def refuse_other_job(a: Side, b: Side) -> None:
    """Raise Mismatch if the two are of different jobs."""
    if a.job != b.job:
        raise Mismatch(
            f"{a.name} is a run of {a.job}, {b.name} of {b.job}: compare runs of one job"
        )


def check(a: Side, b: Side, facts: Iterable[EnvironmentFact], force: bool) -> list[str]:
    """The warnings.

    Raises:
        Mismatch: unless ``force``, what must match doesn't, or nothing is known of an
            environment.
    """
    found = [
        f"{field.name} is {field.a!r} in {a.name}, {field.b!r} in {b.name}"
        for field in facts
        if field.refused
    ]
    unknown = [side.name for side in (a, b) if not any(side.environments)]
    found += [f"{name} has no env.json that says where it ran" for name in unknown]
    if found and not force:
        raise Mismatch(
            f"{'; '.join(found)}: repeat one of them where the other ran, or add --force"
        )
    missing = [] if unknown else [f for f in facts if f.kind == "must match" and not _known(f)]
    found += [
        f"{field.name} is not known in {a.name if field.a is None else b.name}" for field in missing
    ]
    return found


def differing(a: Side, b: Side) -> list[str]:
    """The keys of the two configurations that differ, with their values."""
    first, second = a.settings[0], b.settings[0]
    return [
        f"{key} ({first.get(key)} / {second.get(key)})"
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    ]


def _known(field: EnvironmentFact) -> bool:
    return (field.a is None) == (field.b is None)


def _kind(name: str, true: set[str]) -> Kind:
    if name in _STATE:
        return "state"
    return "must match" if name in _MUST and set(_MUST[name].split()) <= true else "informs"


def _of_environment(side: Side, name: str) -> str | None:
    texts = [_text(env[name]) for env in side.environments if env.get(name) not in (None, [], {})]
    return " | ".join(dict.fromkeys(texts)) or None


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return words.number(value) if isinstance(value, float) else str(value)

"""Published numbers beside ours, whether they agree, and the experiment that a run was made of."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from svdbench.errors import UserError
from svdbench.files import documents, flat
from svdbench.record.reader import RecordedRun
from svdbench.reporting.report import Lines, Table, TableCell
from svdbench.reporting.words import setting
from svdbench.statistics.agreement import (
    AGREEMENT,
    RELATIVE_REACH,
    SHARE_REACH,
    agrees,
    default_reach,
)
from svdbench.statistics.intervals import Interval

# Keys that say how often, where and which arms: the numbers of an arm don't depend on them.
_FREE = {
    *("seeds", "seed", "threads", "device", "max_minutes", "name", "results", "data.dir"),
    *("methods", "alphas", "phis"),
}
ANSWERS = {True: "yes", False: "no", None: "can't tell"}
OTHER = "other settings"


@dataclass(frozen=True)
class PublishedNumber:
    """A number of a configuration's ``published``.

    Attributes:
        column: which of a run's columns it is.
        tolerance: how far it may be off as it was read or rounded.
        of: the other keys, which say of what it is.
    """

    column: str
    value: float
    tolerance: float
    of: Mapping[str, Any]


def published(run: RecordedRun, columns: Collection[str]) -> list[PublishedNumber]:
    """The published numbers in a run's configuration.

    Args:
        columns: those that may have one.

    Raises:
        UserError: the configuration can't be read, or has others.
    """
    found = []
    try:
        for number in run.settings.get("published") or []:
            of = dict(number)
            one = PublishedNumber(of.pop("column"), of.pop("value"), of.pop("tolerance"), of)
            if one.column not in columns or not _are_numbers(one.value, one.tolerance):
                raise ValueError(number)
            found.append(one)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{run.folder / 'config.yaml'} has published numbers of another kind: "
            "repair or delete it"
        ) from error
    return found


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


@dataclass(frozen=True)
class Claim:
    """A published number beside ours.

    Attributes:
        what: is told, in a few words.
        ours: with the interval of one more run.
        published: in the same unit.
        tolerance: how far the published number may be off as it was read or rounded.
        form: a format specification, such as ``.2f`` or ``.1%``.
        reach: the half-width from which on the interval says nothing; None: the usual one.
        settings: those that differ from the published ones, ours first: ``{"epochs": "1 (10)"}``.
    """

    what: str
    ours: Interval
    published: float
    tolerance: float = 0.0
    form: str = ".3g"
    reach: float | None = None
    settings: Mapping[str, str] | None = None

    @property
    def most(self) -> float:
        """The reach that counts."""
        if self.reach is not None:
            return self.reach
        return default_reach(self.published, self.form.endswith("%"))

    @property
    def agrees(self) -> bool | None:
        """Whether the published number may be one of ours; None: that can't be told."""
        if self.settings:
            return None
        ours = self.ours
        return agrees(ours.low, ours.high, self.published, self.tolerance, self.most)

    @property
    def answer(self) -> str:
        """In words, for the table."""
        return OTHER if self.settings else ANSWERS[self.agrees]


@dataclass(frozen=True)
class Claims:
    """A block of a report: published numbers beside ours, and what the answers mean."""

    claims: Sequence[Claim]
    title: str = "ours beside the published numbers"

    def blocks(self) -> list[Table | Lines]:
        """As a table, and the lines below it."""
        return [self.table(), Lines(self.meanings())]

    def table(self) -> Table:
        """A line for each claim: both numbers, our interval, the answer."""
        numbers = ["ours", "published", "interval"]
        table = Table.of(self.title, ["what"], numbers, more_words=["agrees"])
        for claim in self.claims:
            ours, published = _text(claim.ours.mean, claim), _text(claim.published, claim)
            low, high = (_text(end, claim) for end in (claim.ours.low, claim.ours.high))
            interval = "–" if claim.ours.count < 2 else f"{low.removesuffix(' %')} … {high}"
            answer = TableCell(claim.answer, "bad" if claim.agrees is False else "")
            table.add(claim.what, ours, published, interval, answer)
        return table

    def meanings(self) -> Iterator[str]:
        """What the answers mean, and which settings differ from the published ones."""
        settings = [claim.settings or {} for claim in self.claims]
        differing = {key: text for one in settings for key, text in one.items()}
        if differing:
            told = ", ".join(f"{key} {text}" for key, text in differing.items())
            yield f"{OTHER} than the published ones, which stand in brackets: {told}"
        if not all(settings):
            yield (
                f"{AGREEMENT}: ± {100 * SHARE_REACH:g} points of an accuracy, "
                f"± {100 * RELATIVE_REACH:g} % of another number; one seed can't tell"
            )


def _text(value: float, claim: Claim) -> str:
    return format(value, claim.form).replace("%", " %")


def experiment(settings: Mapping[str, Any]) -> str | None:
    """The experiment that the run has most of, if it had one.

    It had that of the same published numbers; without any, one all of whose settings it has.

    Args:
        settings: the configuration of the run, flat: ``{"optimizer.lr": 0.01, …}``.
    """
    likeness = {}
    for name in _names():
        theirs = _settings(name)
        numbers = theirs.pop("published", [])
        alike = [settings.get(key) == value for key, value in theirs.items()]
        if all(alike) or (numbers and _same(numbers, settings.get("published"))):
            likeness[name] = sum(alike)
    return max(sorted(likeness), key=likeness.__getitem__, default=None)


def departures(settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings in which a run differs from its experiment: ``{"epochs": "1 (10)"}``.

    Ours stands first, the published one in brackets; nothing of a run that had no experiment.
    """
    name = experiment(settings)
    if name is None:
        return {}
    return {
        key: f"{setting(settings.get(key))} ({setting(value)})"
        for key, value in _settings(name).items()
        if key not in _FREE and key != "published" and settings.get(key) != value
    }


def _names() -> list[str]:
    folder = files("svdbench.conf").joinpath("experiment")
    return [path.name[:-5] for path in folder.iterdir() if path.name.endswith(".yaml")]


def _settings(name: str) -> dict[str, Any]:
    """What an experiment sets, flat."""
    path = files("svdbench.conf").joinpath("experiment", f"{name}.yaml")
    tree = documents(path.read_text(encoding="utf-8"))[0]
    tree.pop("defaults", None)
    return dict(flat(tree))


def _same(theirs: list[dict[str, Any]], ours: Any) -> bool:
    """Whether the numbers are those, whatever keys have been filled in."""
    return (
        isinstance(ours, list)
        and len(ours) == len(theirs)
        and all(
            isinstance(own, Mapping) and all(own.get(key) == value for key, value in n.items())
            for n, own in zip(theirs, ours, strict=True)
        )
    )

"""Published numbers beside ours: one rule for all claims, and the settings that differ."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import Any

from svdbench.errors import UserError
from svdbench.files import conf_names, documents, flat
from svdbench.record.reader import RecordedRun
from svdbench.record.schema import PLACE
from svdbench.reporting.report import Lines, Table, TableCell
from svdbench.reporting.words import (
    MINUS,
    UNKNOWN,
    interval,
    number,
    ratio,
    seconds,
    setting,
    share,
)
from svdbench.statistics.intervals import Interval

# Keys that say how often, where and which arms: the numbers of an arm don't depend on them.
_FREE = {
    *("seeds", "seed", "threads", "device", "max_minutes", *PLACE, "data.dir"),
    *("methods", "alphas", "phis"),
}
AGREEMENT = (
    "A published number agrees with ours if it lies in the interval for one more run, and that "
    "interval is narrow enough"
)
# The usual reach: of numbers between 0 and 1 that are shown in percent, and of all others
# relative to them.
SHARE_REACH, RELATIVE_REACH = 0.03, 0.2
ANSWERS = {True: "yes", False: "no", None: "can't tell"}
OTHER = "other settings"


@dataclass(frozen=True)
class PublishedNumber:
    """A number of a configuration's ``published``.

    Attributes:
        column: the column of the run's table that has our number.
        tolerance: how far it may be off as it was rounded, or read from a figure.
        of: the other keys, as the method and the epoch.
    """

    column: str
    value: float
    tolerance: float
    of: Mapping[str, Any]


def published(run: RecordedRun, columns: Collection[str]) -> list[PublishedNumber]:
    """The published numbers in a run's configuration."""
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
            f"{run.folder / 'config.yaml'} has published numbers of the wrong type: "
            "repair or delete it"
        ) from error
    return found


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


@dataclass(frozen=True)
class Claim:
    """A number that was published or is expected, and when ours shows it: one rule for all.

    It is shown if our whole interval lies where ``at_least`` and ``at_most`` allow, and
    refuted if none of it does. With neither, the published number must lie in our interval,
    which may reach no further than ``reach``: an interval that is wide agrees with anything.

    Attributes:
        says: the claim in words, or the name of the number.
        published: as in the document, if it has a number.
        tolerance: how far ``published`` may be off as it was rounded, or read from a figure.
        reach: the half-width from which on an interval is too wide to agree with anything.
        form: a format specification, as ``.2f`` or ``.1%``, ``s`` for seconds, ``×`` for a ratio.
        decides: whether it counts; if not, the number only stands beside.
    """

    says: str
    published: float | None = None
    tolerance: float = 0.0
    reach: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    form: str = ".3g"
    number: str = ""
    place: str = ""
    decides: bool = True

    def __post_init__(self) -> None:
        compared = self.published is not None and self.reach is not None
        if self.decides and not self._is_bounded and not compared:
            raise ValueError(
                f"{self.number or self.says}: nothing decides: give at_least, at_most, or "
                "published and reach"
            )

    @property
    def _is_bounded(self) -> bool:
        return self.at_least is not None or self.at_most is not None

    def shown_by(self, ours: Interval) -> bool | None:
        """Whether our number shows the claim (True) or refutes it (False); None: undecided."""
        if not self._is_bounded:
            return self._agrees(ours)
        least = -math.inf if self.at_least is None else self.at_least
        most = math.inf if self.at_most is None else self.at_most
        if least <= ours.low and ours.high <= most:
            return True
        return False if ours.high < least or ours.low > most else None

    def _agrees(self, ours: Interval) -> bool | None:
        """Whether the published number may be one of ours. A single run has no interval."""
        if self.published is None or self.reach is None:
            return None
        if not ours.low - self.tolerance <= self.published <= ours.high + self.tolerance:
            return False
        return True if ours.high - ours.low <= 2 * self.reach else None


@dataclass(frozen=True)
class Answer:
    """A claim and our number, if there is one.

    Attributes:
        settings: those that differ from the published ones, ours first: ``{"epochs": "1 (10)"}``.
    """

    claim: Claim
    ours: Interval | None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> bool | None:
        """Whether the claim is shown (True), refuted, or open (None)."""
        if self.ours is None or self.settings:
            return None
        return self.claim.shown_by(self.ours)


def beside(
    says: str,
    ours: Interval,
    number: PublishedNumber,
    form: str,
    settings: Mapping[str, str] | None = None,
) -> Answer:
    """Our number beside a published one, which must lie within the usual reach."""
    largest = SHARE_REACH if form.endswith("%") else RELATIVE_REACH * abs(number.value)
    claim = Claim(says, number.value, number.tolerance, largest, form=form)
    return Answer(claim, ours, settings or {})


@dataclass(frozen=True)
class Claims:
    """A block of a report: published numbers beside ours, and what the answers mean."""

    answers: Sequence[Answer]
    title: str = "our numbers and the published ones"

    def blocks(self) -> list[Table | Lines]:
        return [self.table(), Lines(self.meanings())]

    def table(self) -> Table:
        """A line for each claim: both numbers, our interval, the answer."""
        numbers = ["ours", "published", "interval"]
        table = Table.of(self.title, ["what"], numbers, more_words=["agrees"])
        for answer in self.answers:
            claim, ours, between = answer.claim, answer.ours, UNKNOWN
            form = partial(written, form=claim.form)
            if ours is not None and ours.count > 1:
                between = interval(ours.low, ours.high, form)
            result = OTHER if answer.settings else ANSWERS[answer.shown]
            table.add(
                claim.says,
                UNKNOWN if ours is None else TableCell.number(ours.mean, form),
                UNKNOWN if claim.published is None else TableCell.number(claim.published, form),
                between,
                TableCell(result, "bad" if answer.shown is False else ""),
            )
        return table

    def meanings(self) -> Iterator[str]:
        """What the answers mean, and which settings differ from the published ones."""
        differing = {key: text for one in self.answers for key, text in one.settings.items()}
        if differing:
            settings = ", ".join(f"{key} {text}" for key, text in differing.items())
            yield f"{OTHER} than the published ones (in brackets): {settings}"
        if not all(one.settings for one in self.answers):
            yield (
                f"{AGREEMENT}: ± {number(100 * SHARE_REACH)} points of an accuracy, "
                f"± {share(RELATIVE_REACH)} of another number; one seed can't tell"
            )


def written(value: float, form: str) -> str:
    """A number by the form of a claim: a format specification, ``s`` or ``×``."""
    if form in ("s", "×"):
        return seconds(value) if form == "s" else ratio(value)
    return format(value, form).replace("-", MINUS)


def experiment(settings: Mapping[str, Any]) -> str | None:
    """The name of the experiment that the run was started from; None if there was none.

    That is one with the same published numbers or one all of whose settings the run has; of
    several, the one with most settings in common.

    Args:
        settings: the configuration of the run, flat: ``{"optimizer.lr": 0.01, …}``.
    """
    likeness = {}
    for name in conf_names("experiment"):
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


def _settings(name: str) -> dict[str, Any]:
    path = files("svdbench.conf").joinpath("experiment", f"{name}.yaml")
    tree = documents(path.read_text(encoding="utf-8"))[0]
    tree.pop("defaults", None)
    return dict(flat(tree))


def _same(theirs: list[dict[str, Any]], ours: Any) -> bool:
    """Whether the numbers are the same, apart from keys that have been filled in."""
    return (
        isinstance(ours, list)
        and len(ours) == len(theirs)
        and all(
            isinstance(own, Mapping) and all(own.get(key) == value for key, value in n.items())
            for n, own in zip(theirs, ours, strict=True)
        )
    )

"""The table under an experiment that was published: ours, theirs, and whether they agree."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from svdbench.errors import UserError
from svdbench.report.tables import new_table, read_configuration
from svdbench.statistics.agreement import (
    AGREEMENT,
    RELATIVE_REACH,
    SHARE_REACH,
    agrees,
    default_reach,
)
from svdbench.statistics.intervals import Interval

ANSWERS = {True: "yes", False: "[bold red]no[/]", None: "can't tell"}
OTHER = "other settings"


@dataclass(frozen=True)
class Published:
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


def published(folder: Path, columns: Collection[str]) -> list[Published]:
    """The published numbers in a run's configuration.

    Args:
        columns: those that may have one.

    Raises:
        UserError: the configuration can't be read, or has others.
    """
    numbers = read_configuration(folder).get("published") or []
    found = []
    try:
        for number in numbers:
            of = dict(number)
            one = Published(of.pop("column"), of.pop("value"), of.pop("tolerance"), of)
            if one.column not in columns or not _are_numbers(one.value, one.tolerance):
                raise ValueError(number)
            found.append(one)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / 'config.yaml'} has published numbers of another kind: repair or delete it"
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


def agreement(claims: Sequence[Claim], title: str = "ours beside the published numbers") -> Table:
    """A line for each claim: both numbers, our interval, the answer."""
    table = new_table(title, ["what"], ["ours", "published", "interval"])
    table.add_column("agrees", no_wrap=True)
    for claim in claims:
        ours, published = _text(claim.ours.mean, claim), _text(claim.published, claim)
        low, high = (_text(end, claim) for end in (claim.ours.low, claim.ours.high))
        interval = "–" if claim.ours.count < 2 else f"{low.removesuffix(' %')} … {high}"
        table.add_row(claim.what, ours, published, interval, claim.answer)
    return table


def meanings(claims: Sequence[Claim]) -> Iterator[str]:
    """What the answers of the table mean, and which settings differ from the published ones."""
    differing = {key: text for claim in claims for key, text in (claim.settings or {}).items()}
    if differing:
        told = ", ".join(f"{key} {text}" for key, text in differing.items())
        yield f"{OTHER} than the published ones, which stand in brackets: {told}"
    if any(not claim.settings for claim in claims):
        yield (
            f"{AGREEMENT}: ± {100 * SHARE_REACH:g} points of an accuracy, "
            f"± {100 * RELATIVE_REACH:g} % of another number; one seed can't tell"
        )


def _text(value: float, claim: Claim) -> str:
    return format(value, claim.form).replace("%", " %")

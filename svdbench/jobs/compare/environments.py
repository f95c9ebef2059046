"""Whether the environments of two runs match where they must."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from svdbench.errors import UserError
from svdbench.jobs.compare.metrics import ComparedMetric
from svdbench.jobs.compare.runs import Side
from svdbench.reporting import words

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

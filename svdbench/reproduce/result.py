"""What a result is: a YAML in ``conf/reproduce``, read and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any, TypeVar

from svdbench.files import documents
from svdbench.members import refuse_unknown

FULL, QUICK = "full", "quick"
VARIANTS = (FULL, QUICK)
DOCUMENTS = {
    "000": "What if Neural Networks had SVDs? (slides)",
    "001": "Stabilizing Gradients for Deep Neural Networks via Efficient SVD Parameterization",
    "002": "Response of a Three-Layer Neural Network to Randomized SVD and Truncated SVD",
    "003": "Deep Neural Networks and Accelerating them using Singular Value Decomposition",
}
AUTHORS = {
    "000": "Kovtun et al.",
    "001": "Shcherbakov et al. 2019",
    "002": "Keene 2022",
    "003": "Sarnayak et al. 2020",
}

T = TypeVar("T")


@dataclass(frozen=True)
class NeededRun:
    """A run that a result is read from.

    Attributes:
        run: its folder, ``<job>/<name>``; results may share one.
        full, quick: what is typed after ``svdbench``, without a name and a place.
    """

    run: str
    full: str
    quick: str

    def typed(self, variant: str) -> str:
        """The command of a variant, without a name and a place."""
        return str(getattr(self, variant))

    @property
    def name(self) -> str:
        return PurePosixPath(self.run).name


@dataclass(frozen=True)
class Claim:
    """A number of ours, what was claimed of it, and what decides.

    It is shown if our whole interval lies where ``at_least`` and ``at_most`` allow, and
    refuted if none of it does. With neither, the published number must lie in our interval,
    which may reach no further than ``reach``. With ``decides`` false it only stands beside.

    Attributes:
        number: as the judge calls it.
        says: the claim in words, or what the number is.
        published: what the document has, if it has a number.
        place: where in the document.
        tolerance: how far ``published`` may be off as it was rounded, or read from a figure.
        reach: the half-width from which on an interval is too wide to agree with anything.
        form: a format specification, as ``.2f`` or ``.1%``, or ``s`` for seconds.
    """

    number: str
    says: str
    published: float | None = None
    place: str = ""
    tolerance: float = 0.0
    reach: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    decides: bool = True
    form: str = ".3g"

    def __post_init__(self) -> None:
        bounded = self.at_least is not None or self.at_most is not None
        compared = self.published is not None and self.reach is not None
        if self.decides and not bounded and not compared:
            raise ValueError(
                f"{self.number}: nothing decides: give at_least, at_most, or published and reach"
            )


@dataclass(frozen=True)
class CurveFigure:
    """A figure drawn from the judge's curves; ``log`` names its logarithmic axes."""

    name: str
    title: str
    x: str
    y: str
    log: str = ""


@dataclass(frozen=True)
class Slip:
    """Something that is wrong in the original, and how one sees that."""

    what: str
    evidence: str


@dataclass(frozen=True)
class Result:
    """A table, figure or theorem of a document.

    Attributes:
        name: of its YAML and its judge.
        document: of ``DOCUMENTS``.
        title: a few words.
        place: where in the document.
        claim: what the document says, in our words.
        how: how it is repeated, as published and as corrected.
        runs: the runs it is read from; none where the judge computes all.
        minutes: of all runs on two cores, by variant.
        claims: what is compared, and what decides.
        figures: what is drawn.
        slips: what was wrong in the original.
        limits: what these runs can't show.
        learned: what a reader may take from it.
    """

    name: str
    document: str
    title: str
    place: str
    claim: str
    how: str
    minutes: dict[str, float]
    claims: list[Claim]
    runs: list[NeededRun] = field(default_factory=list)
    figures: list[CurveFigure] = field(default_factory=list)
    slips: list[Slip] = field(default_factory=list)
    limits: str = ""
    learned: str = ""

    def __post_init__(self) -> None:
        if self.document not in DOCUMENTS:
            raise ValueError(f"document is {self.document!r}: choose from {', '.join(DOCUMENTS)}")
        if set(self.minutes) != set(VARIANTS):
            raise ValueError(f"minutes are of {', '.join(self.minutes)}: give full and quick")


def names() -> list[str]:
    """The names of all results, by document and then as their files are sorted."""
    return [result.name for result in all_results()]


def all_results() -> list[Result]:
    """All results, by document and name."""
    folder = files("svdbench.conf") / "reproduce"
    found = [load(f.name[:-5]) for f in folder.iterdir() if f.name.endswith(".yaml")]
    return sorted(found, key=lambda result: (result.document, result.name))


def load(name: str) -> Result:
    """The result ``name``.

    Raises:
        ValueError: there is no such result, or its YAML has a key or a value that doesn't fit.
    """
    folder = files("svdbench.conf") / "reproduce"
    known = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))
    refuse_unknown("result", [name], known)
    tree = documents((folder / f"{name}.yaml").read_text(encoding="utf-8"))[0]
    kinds: dict[str, Any] = {
        "runs": NeededRun,
        "claims": Claim,
        "figures": CurveFigure,
        "slips": Slip,
    }
    try:
        parts = {
            key: [_made(kind, one) for one in tree.pop(key, [])] for key, kind in kinds.items()
        }
        return _made(Result, {"name": name, **tree, **parts})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}.yaml: {error}") from error


def _made(kind: type[T], values: Mapping[str, Any]) -> T:
    """An object of a dataclass, with the blanks of folded text taken out."""
    refuse_unknown("key", list(values), [f.name for f in fields(kind)])  # type: ignore[arg-type]
    return kind(**{k: " ".join(v.split()) if isinstance(v, str) else v for k, v in values.items()})

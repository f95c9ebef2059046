"""Published results: reports, YAML files in ``conf/reproduce``, and verdicts by the claims."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any, TypeVar

from svdbench.files import conf_names, documents
from svdbench.members import refuse_unknown
from svdbench.reporting.claims import AGREEMENT, Answer, Claim
from svdbench.reporting.words import quantity
from svdbench.statistics.intervals import Interval


@dataclass(frozen=True)
class Paper:
    """The paper that a report is about."""

    cited: str
    title: str
    venue: str
    link: str


@dataclass(frozen=True)
class Source:
    """A report whose results are repeated.

    Attributes:
        cited: its authors in short, with the year if it is dated, as in "Keene 2022".
        link: where its code is; empty if none is known.
        behind: the paper that it is about.
        about: what the report is, and of whose method, in a line.
    """

    cited: str
    authors: str
    title: str
    dated: str
    about: str
    behind: Paper
    link: str = ""


SOURCES = {
    "kovtun": Source(
        cited="Kovtun et al.",
        authors="Elizaveta Kovtun, Olesya Kuznetsova, Dmitrii Korzh",
        title="What if Neural Networks had SVDs?",
        dated="slides, undated",
        about="FastH: products of reflectors in blocks",
        behind=Paper(
            "Mathiasen et al. 2020",
            "What if Neural Networks had SVDs?",
            "NeurIPS 2020",
            "https://arxiv.org/abs/2009.13977",
        ),
    ),
    "shcherbakov-2019": Source(
        cited="Shcherbakov et al. 2019",
        authors="Kirill Shcherbakov, Egor Sevriugov, Mikhail Vasilkovsky, Egor Konyagin, "
        "Ekaterina Vorobyeva, Leonid Litovchenko",
        title="Stabilizing Gradients for Deep Neural Networks via Efficient SVD Parameterization",
        dated="report, 2019",
        about="the Spectral-RNN: recurrent weights in SVD form",
        behind=Paper(
            "Zhang, Lei and Dhillon 2018",
            "Stabilizing Gradients for Deep Neural Networks via Efficient SVD Parameterization",
            "ICML 2018",
            "https://arxiv.org/abs/1803.09327",
        ),
        link="https://github.com/waytobehigh/nla-proj",
    ),
    "keene-2022": Source(
        cited="Keene 2022",
        authors="Benjamin Keene",
        title="An Investigation of the Response of a Three-Layer Neural Network to Randomized SVD "
        "and Truncated SVD",
        dated="report, 2022",
        about="compressing weights while they are trained",
        behind=Paper(
            "Halko, Martinsson and Tropp 2011",
            "Finding Structure with Randomness: Probabilistic Algorithms for Constructing "
            "Approximate Matrix Decompositions",
            "SIAM Review 53",
            "https://arxiv.org/abs/0909.4061",
        ),
        link="https://github.com/benkeene/Compressed-Neural-Networks",
    ),
    "sarnayak-2020": Source(
        cited="Sarnayak et al. 2020",
        authors="Samyak S. Sarnayak, Abhijit Mohanty, Srinidhi Temkar",
        title="Deep Neural Networks and Accelerating them using Singular Value Decomposition",
        dated="report, 2020",
        about="SVD-DNN: training in two factors per layer after a dense start",
        behind=Paper(
            "Cai et al. 2014",
            "Fast Learning of Deep Neural Networks via Singular Value Decomposition",
            "PRICAI 2014",
            "https://doi.org/10.1007/978-3-319-13560-1_65",
        ),
    ),
    "siems-2025": Source(
        cited="Siems et al. 2025",
        authors="Julien Siems, Timur Carstensen, Arber Zela, Frank Hutter, Massimiliano Pontil, "
        "Riccardo Grazzi",
        title="DeltaProduct: Improving State-Tracking in Linear RNNs via Householder Products",
        dated="paper, 2025",
        about="DeltaProduct: several reflectors for each token",
        behind=Paper(
            "Siems et al. 2025",
            "DeltaProduct: Improving State-Tracking in Linear RNNs via Householder Products",
            "NeurIPS 2025",
            "https://arxiv.org/abs/2502.10297",
        ),
    ),
}


def lines_of(source: Source) -> list[str]:
    """A report and the paper behind it, a line each, with their addresses."""
    where = f", {source.link}" if source.link else ""
    paper = source.behind
    behind = "" if paper.title == source.title else f"{paper.title}, "
    return [
        f"{source.cited}: {source.authors}, {source.title} ({source.dated}){where}",
        f"  behind it: {paper.cited}, {behind}{paper.venue}, {paper.link}",
    ]


FULL, QUICK = "full", "quick"
VARIANTS = (FULL, QUICK)
T = TypeVar("T")


@dataclass(frozen=True)
class NeededRun:
    """A run that a result is read from.

    Attributes:
        run: its folder, ``<job>/<name>``; results may share one.
        full, quick: what is typed after ``svdbench``, without a name and a place.
        kept: the full one as in results/reference, where that has it in other words.
    """

    run: str
    full: str
    quick: str
    kept: str = ""

    def typed(self, variant: str) -> str:
        """The command of a variant, without a name and a place."""
        return str(getattr(self, variant))

    @property
    def name(self) -> str:
        return PurePosixPath(self.run).name


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
class PublishedResult:
    """A table, figure or theorem of a report.

    Attributes:
        name: of its YAML and its judge.
        source: the report, a key of ``SOURCES``.
        how: how it is repeated, as published and as corrected.
        runs: the runs it is read from; none where the judge computes all.
        minutes: of all runs on two cores, by variant.
        verdicts: ours by variant, as kept in results/reference.
        slips: what was wrong in the original.
        limits: what these runs can't show.
        learned: what a reader may take from it.
    """

    name: str
    source: str
    title: str
    place: str
    claim: str
    how: str
    minutes: dict[str, float]
    verdicts: dict[str, str]
    claims: list[Claim]
    runs: list[NeededRun] = field(default_factory=list)
    figures: list[CurveFigure] = field(default_factory=list)
    slips: list[Slip] = field(default_factory=list)
    limits: str = ""
    learned: str = ""

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source is {self.source!r}: choose from {', '.join(SOURCES)}")
        if wrong := set(self.verdicts.values()) - {each.value for each in ResultVerdict}:
            raise ValueError(f"{', '.join(sorted(wrong))} is no verdict")
        for what, given in (("minutes", self.minutes), ("verdicts", self.verdicts)):
            if set(given) != set(VARIANTS):
                raise ValueError(f"{what} are of {', '.join(given)}: give full and quick")
        for claim in self.claims:
            if not claim.number:
                raise ValueError(f"the claim {claim.says!r} names no number: give one of the judge")


def names() -> list[str]:
    """The names of all results, by report and then as their files are sorted."""
    return [result.name for result in all_results()]


def all_results() -> list[PublishedResult]:
    found = [load(name) for name in conf_names("reproduce")]
    order = list(SOURCES)
    return sorted(found, key=lambda result: (order.index(result.source), result.name))


def load(name: str) -> PublishedResult:
    folder = files("svdbench.conf") / "reproduce"
    refuse_unknown("result", [name], conf_names("reproduce"))
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
        return _made(PublishedResult, {"name": name, **tree, **parts})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}.yaml: {error}") from error


def _made(kind: type[T], values: Mapping[str, Any]) -> T:
    """An object of a dataclass, with folded text stripped."""
    refuse_unknown("key", list(values), [f.name for f in fields(kind)])  # type: ignore[arg-type]
    return kind(**{k: " ".join(v.split()) if isinstance(v, str) else v for k, v in values.items()})


class ResultVerdict(Enum):
    holds = "holds"
    part = "holds in part"
    fails = "doesn't hold"
    open = "can't be judged"


RULE = (
    "A claim is shown if the whole interval of our number satisfies it, refuted if no part of the "
    f"interval does, and open otherwise. {AGREEMENT} (± as given in the table). The result "
    "holds if all its claims are shown, in part if some are, doesn't hold if none is and at least "
    "one is refuted, and can't be judged if all are open."
)
ANSWERS = {True: "shown", False: "refuted", None: "open"}


def answers(claims: Sequence[Claim], numbers: Mapping[str, Interval]) -> list[Answer]:
    """An answer for each claim, those that only stand beside among them."""
    return [Answer(claim, numbers.get(claim.number)) for claim in claims]


def verdict(found: Sequence[Answer]) -> ResultVerdict:
    """The verdict by :data:`RULE`."""
    decided = [a.shown for a in found if a.claim.decides]
    if decided and all(decided):
        return ResultVerdict.holds
    if any(decided):
        return ResultVerdict.part
    return ResultVerdict.fails if False in decided else ResultVerdict.open


def reason(found: Sequence[Answer]) -> str:
    decided = [a.shown for a in found if a.claim.decides]
    counts = [(decided.count(shown), word) for shown, word in ANSWERS.items()]
    return f"{quantity(len(decided), 'claim')}: " + ", ".join(
        f"{n} {word}" for n, word in counts if n
    )

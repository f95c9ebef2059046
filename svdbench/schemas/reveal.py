"""Configuration of ``svdbench rank-reveal``: which rank each weight of a network needs."""

from dataclasses import dataclass, field

from svdbench.members import refuse_unknown
from svdbench.schemas.base import above_zero, at_least, each_once
from svdbench.schemas.classification import SideBySide
from svdbench.schemas.compression import Latency

EXACT, FRONTIER, PUBLISHED = "exact", "frontier", "published"
ALGORITHMS = (EXACT, FRONTIER, PUBLISHED)

# What a loss may rise by where nothing is said of it.
USUAL_INCREASE = 0.01
KINDS = ("kronecker", "whitened", "plain")


@dataclass
class UserModel:
    """A model of the user's own: functions as MODULE:FUNCTION, and a file of weights.

    Attributes:
        max_examples: of each split that the loader gives; None: all.
    """

    build: str | None = None
    weights: str | None = None
    loader: str | None = None
    max_examples: int | None = None

    def __post_init__(self) -> None:
        at_least(1, **{"model.max_examples": self.max_examples})


@dataclass
class Examples:
    """How many examples there are for what, at most.

    Attributes:
        calibration: of those that the network was trained on, for the frontier.
        search: kept out of the training, to choose by; a fifth of all at most.
        curves: of ``search``, for exact curves and the published algorithm.
    """

    calibration: int = 20000
    search: int = 5000
    curves: int = 1000

    def __post_init__(self) -> None:
        at_least(
            1,
            **{
                "examples.calibration": self.calibration,
                "examples.search": self.search,
                "examples.curves": self.curves,
            },
        )


@dataclass
class Share:
    """A budget in the place of a bound on the loss, as a fraction of the dense network's.

    Attributes:
        params: numbers in the weights.
        macs: multiply-adds.
        latency: measured time of a forward pass.
    """

    params: float | None = None
    macs: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            if not 0 < value <= 1:
                raise ValueError(
                    f"budget.{name} is {value:g}: give a fraction of the dense network's, above "
                    "0 and up to 1, as 0.25"
                )

    def given(self) -> dict[str, float]:
        """Those that are set."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def allowed(self, max_loss_increase: float | None) -> float | None:
        """The bound on the loss in the place of a budget; None with one."""
        if self.given():
            return None
        return USUAL_INCREASE if max_loss_increase is None else max_loss_increase


@dataclass
class RankReveal(SideBySide):
    """``svdbench rank-reveal``: the ranks of a network's weights, by several algorithms.

    Attributes:
        model: in the place of a data set; nothing is trained then, and there is one seed.
        algorithms: None: frontier, and exact if it should take no longer than ``affordable_s``.
        kind: of the frontier.
        epsilon: by how much a layer's rank may raise the loss, alone; of exact and published.
        max_loss_increase: by how much all ranks together may; None: 0.01, or a budget.
        budget: in its place.
        multiple_of: of every rank of the frontier.
        asked_rank: a rank of all weights to look at besides.
        fractions: of the numbers in the weights, at which frontiers are compared; none if
            that should take longer than ``affordable_s``.
    """

    model: UserModel = field(default_factory=UserModel)
    algorithms: list[str] | None = None
    kind: str = "kronecker"
    epsilon: float = 0.01
    max_loss_increase: float | None = None
    budget: Share = field(default_factory=Share)
    multiple_of: int = 1
    asked_rank: int | None = None
    examples: Examples = field(default_factory=Examples)
    fractions: list[float] = field(default_factory=lambda: [0.04, 0.1, 0.25, 0.5, 1.0])
    affordable_s: float = 60.0
    latency: Latency = field(default_factory=Latency)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unknown("algorithm", self.algorithms or [], ALGORITHMS)
        each_once(algorithms=self.algorithms, fractions=self.fractions or None)
        refuse_unknown("kind of frontier", [self.kind], KINDS)
        at_least(0, epsilon=self.epsilon, max_loss_increase=self.max_loss_increase)
        at_least(1, multiple_of=self.multiple_of, asked_rank=self.asked_rank)
        above_zero(affordable_s=self.affordable_s)
        limits = [*self.budget.given()]
        if self.max_loss_increase is not None:
            limits.append("max_loss_increase")
        if len(limits) > 1:
            raise ValueError(f"{' and '.join(limits)} are given: give one of them")
        for fraction in self.fractions:
            if not 0 < fraction <= 1:
                raise ValueError(f"fractions has {fraction:g}: give numbers above 0, up to 1")
        if self.model.build is None:
            for name in ("weights", "loader", "max_examples"):
                if getattr(self.model, name) is not None:
                    raise ValueError(
                        f"model.{name} is of a model of your own: name that too, as my_net:build"
                    )

    @property
    def allowed(self) -> float | None:
        """The loss increase that the frontier is certified for; None with a budget."""
        return self.budget.allowed(self.max_loss_increase)

"""Configuration of ``svdbench accelerate``: SVD-DNN beside the same network trained dense."""

from dataclasses import dataclass, field
from enum import Enum

from svdbench.members import refuse_unknown
from svdbench.schemas.base import each_once
from svdbench.schemas.classification import SideBySide

NUMBERS = ("speed", "train_loss", "train_accuracy", "test_accuracy")


class AlphaMeaning(Enum):
    """Of what α is a part: see :func:`svdbench.acceleration.alpha_rank`."""

    code = "code"
    text = "text"


class Start(Enum):
    """How weights are drawn: as torch does it, or Glorot's way with biases of zero."""

    torch = "torch"
    glorot = "glorot"


@dataclass
class PublishedSpeed:
    """A published number to stand beside ours.

    Attributes:
        alpha, phi: of the arm; None, None: the dense one.
        column: speed, of the whole training relative to the dense arm's; train_loss,
            train_accuracy or test_accuracy, after the last epoch.
        value: as published.
        tolerance: how far it may be off as it was rounded or read from a figure.
    """

    alpha: float | None = None
    phi: float | None = None
    column: str = ""
    value: float = 0.0
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        refuse_unknown("published.column", [self.column], NUMBERS)


@dataclass
class Accelerate(SideBySide):
    """``svdbench accelerate``: trained dense, and in factors after a share φ of the steps.

    Attributes:
        alphas: how many singular values are kept; an arm for each, and each φ.
        ranks: of the weights in the order of the layers, ``none`` for dense ones, instead
            of all alphas.
        phis: shares of the steps that are dense.
        skip_last, only_if_saves: as in :func:`svdbench.lowrank.factor`.
        carry_moments: the optimiser's, over the switch.
        input_gradient: make the gradient of the examples too, which nobody needs.
        published: numbers to compare with.
    """

    start: Start = Start.torch
    alphas: list[float] = field(default_factory=lambda: [0.5])
    alpha_meaning: AlphaMeaning = AlphaMeaning.code
    ranks: list[str] | None = None
    phis: list[float] = field(default_factory=lambda: [0.1, 0.0])
    skip_last: bool = True
    only_if_saves: bool = True
    carry_moments: bool = True
    input_gradient: bool = False
    published: list[PublishedSpeed] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        each_once(alphas=self.alphas, phis=self.phis)
        for alpha in self.alphas:
            if not 0 < alpha <= 1:
                raise ValueError(f"alpha is {alpha}: give numbers above 0, and 1 at most")
        for phi in self.phis:
            if not 0 <= phi < 1:
                raise ValueError(f"phi is {phi}: give shares from 0 to below 1, as 0.1")
        for rank in self.ranks or ():
            if rank.lower() != "none" and not (rank.isdecimal() and int(rank)):
                raise ValueError(
                    f"ranks has {rank!r}: give a whole number from 1 up or none for each layer, "
                    "as in ranks=[154,85,none]"
                )

"""Keys of ``svdbench accelerate``: SVD-DNN beside the same network trained dense."""

from dataclasses import dataclass
from enum import Enum

from svdbench.config.base import FollowedConfig
from svdbench.config.fields import option, several
from svdbench.side_by_side.config import BYTE_LM, FamilyConfig, epochs_option

NUMBERS = ("speed", "train_loss", "train_accuracy", "test_accuracy")


class AlphaMeaning(Enum):
    """Of what α is a part: see :func:`svdbench.jobs.accelerate.arms.alpha_rank`."""

    code = "code"
    text = "text"


class Start(Enum):
    """How weights are drawn: as torch does it, or Glorot's way with biases of zero."""

    torch = "torch"
    glorot = "glorot"


@dataclass
class PublishedSpeed:
    alpha: float | None = option(None, "α of the arm", null="the dense one")
    phi: float | None = option(None, "φ of the arm", null="the dense one")
    column: str = option(
        "",
        "speed of the whole training relative to the dense arm's, or a result after the last epoch",
        choices=NUMBERS,
        noun="published.column",
    )
    value: float = option(0.0, "the number as published")
    tolerance: float = option(0.0, "its uncertainty, from rounding or from reading a figure")


@dataclass
class Accelerate(FamilyConfig, FollowedConfig):
    """``svdbench accelerate``: trained dense, and in factors after a share φ of the steps."""

    epochs: int | None = epochs_option("20, or enough for 200 batches")
    start: Start = option(Start.torch, "initial weights: torch's, or glorot with zero biases")
    alphas: list[float] = several(
        [0.5],
        "shares of the singular values to keep; one arm for each, with each phi",
        "--alphas A,A,…",
        former=("--alpha",),
        above=0,
        at_most=1,
        remedy="give numbers above 0 and at most 1",
    )
    alpha_meaning: AlphaMeaning = option(
        AlphaMeaning.code,
        "what alpha is a share of: mn/(m + n), where factors begin to save (code), or the smaller "
        "side of a weight (text)",
        typed="--alpha-meaning code|text",
    )
    ranks: list[str] | None = option(
        None,
        "ranks of the layers instead of alpha, such as 154,85,none",
        typed="--ranks L,L,…",
        pattern=r"(?i:none)|0*[1-9]\d*",
        remedy="give a whole number of at least 1, or none, for each layer, for example "
        "ranks=[154,85,none]",
    )
    phis: list[float] = several(
        [0.1, 0.0],
        "shares of the training steps before the switch to factors",
        "--phis P,P,…",
        former=("--phi",),
        at_least=0,
        below=1,
        remedy="give shares from 0 to below 1, such as 0.1",
    )
    skip_last: bool = option(True, "leave the last layer dense")
    only_if_saves: bool = option(True, "leave a layer dense if its factors have no fewer numbers")
    carry_moments: bool = option(True, "keep the optimiser's moments across the switch")
    input_gradient: bool = option(
        False, "also compute the gradient in the inputs, which nothing uses"
    )
    published: list[PublishedSpeed] = option([], "numbers to compare with: see conf/experiment")

    def check(self) -> None:
        super().check()
        if self.input_gradient and self.net == BYTE_LM:
            raise ValueError("input_gradient is for data of numbers, and byte-lm reads bytes")

"""Keys of ``svdbench accelerate``: SVD-DNN beside the same network trained dense."""

from dataclasses import dataclass
from enum import Enum

from svdbench.config.fields import option, several
from svdbench.side_by_side.config import SideBySide, epochs_option

NUMBERS = ("speed", "train_loss", "train_accuracy", "test_accuracy")


class AlphaMeaning(Enum):
    """Of what α is a part: see :func:`svdbench.jobs.accelerate.ranks.alpha_rank`."""

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
    tolerance: float = option(0.0, "how far it may be off as it was rounded or read from a figure")


@dataclass
class Accelerate(SideBySide):
    """``svdbench accelerate``: trained dense, and in factors after a share φ of the steps."""

    epochs: int | None = epochs_option("20, or as many as make 200 batches")
    start: Start = option(Start.torch, "initial weights: torch's, or glorot with biases of zero")
    alphas: list[float] = several(
        [0.5],
        "share of the singular values kept; an arm for each, and each phi",
        "--alpha A,A,…",
        above=0,
        at_most=1,
        remedy="give numbers above 0, and 1 at most",
    )
    alpha_meaning: AlphaMeaning = option(
        AlphaMeaning.code,
        "what alpha is a share of: mn/(m + n), where factors begin to save (code), or the smaller "
        "side of a weight (text)",
        typed="--alpha-meaning code|text",
    )
    ranks: list[str] | None = option(
        None,
        "in place of alpha: the rank of each layer, as 154,85,none",
        typed="--ranks L,L,…",
        pattern=r"(?i:none)|0*[1-9]\d*",
        remedy="give a whole number from 1 up or none for each layer, as in ranks=[154,85,none]",
    )
    phis: list[float] = several(
        [0.1, 0.0],
        "share of the steps that are dense, before the switch",
        "--phi P,P,…",
        at_least=0,
        below=1,
        remedy="give shares from 0 to below 1, as 0.1",
    )
    skip_last: bool = option(True, "leave the last layer dense")
    only_if_saves: bool = option(True, "leave a layer dense whose factors have no fewer numbers")
    carry_moments: bool = option(True, "keep the optimiser's moments over the switch")
    input_gradient: bool = option(False, "compute the gradient of the examples too, to no use")
    published: list[PublishedSpeed] = option([], "numbers to compare with: see conf/experiment")

"""Train a network with dense and with low-rank weights, and see whether low rank pays.

Each way of training is called an arm. The arm SVD-DNN, for example, trains dense for a fraction φ
of the steps; then each weight W is replaced by two factors W₁W₂ of low rank, which need fewer
multiplications. `svdbench list arms` lists the others. All arms start from the same weights and
see the same batches, one epoch of each in turn.

Smaller dense networks are trained as well: with each arm's step time, with its multiplications,
and of ¼, ⅜ and ½ the width. All get the same number of steps, multiplications or seconds. The
report says whether an arm is better than the best of the smaller networks, and shows the speed,
the speed that the saved multiplications allow, and the accuracy with its interval.

The examples are those of a data set, a text (--net byte-lm), or a sequence task, such as adding or
copying, for a recurrent network (--task). A regression, such as adding, is judged by its loss.

experiment=svd_dnn_mnist_published follows the code of Sarnayak et al. (2020), and
experiment=svd_dnn_mnist_corrected corrects its errors; likewise svd_dnn_xor_… and
svd_dnn_cats_…; svd_dnn_alpha varies α. These experiments train no smaller networks.

Writes results/accelerate/NAME: CSV tables of epochs, arms, layers and smaller networks, plots,
the configuration and the environment.

Examples:
    svdbench accelerate mnist --alphas 0.5 --phis 0.1
    svdbench accelerate mnist --arms svd-dnn,cola --budget 2.5
    svdbench accelerate --task adding --net rnn --length 50 --budget 20
    svdbench accelerate experiment=svd_dnn_mnist_corrected
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from svdbench.config.base import MACHINE, Dtype, FollowedConfig, dtype_option
from svdbench.config.fields import members, option, several, shares
from svdbench.job import Job
from svdbench.members import ARMS
from svdbench.side_by_side.config import BYTE_LM, DATASET, FamilyConfig, epochs_option

NUMBERS = ("speed", "train_loss", "train_accuracy", "test_accuracy")


class AlphaMeaning(Enum):
    """What α is a fraction of: see :func:`svdbench.jobs.accelerate.costs.alpha_rank`."""

    code = "code"
    text = "text"


class Start(Enum):
    """How weights are initialised: as torch does, or by Glorot's method with zero biases."""

    torch = "torch"
    glorot = "glorot"


class TrainingBudget(Enum):
    """What is equal for all arms: steps, the multiplications of those steps, or seconds."""

    steps = "steps"
    multiplications = "multiplications"
    seconds = "seconds"


class DecayOf(Enum):
    """What ``optimizer.weight_decay`` applies to: the product of two factors, or each factor."""

    product = "product"
    factors = "factors"


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
    """``svdbench accelerate``: trained dense, in low rank, and dense with fewer hidden units."""

    dtype: Dtype = dtype_option(
        "precision: float32, float64, or bfloat16: parameters in float32, products in bfloat16"
    )
    compile: bool = option(
        False, "compile all networks with torch.compile", typed="--compile", panel=MACHINE
    )
    epochs: int | None = epochs_option(
        "20 (1 for a text), or more if needed for 200 batches; 10 rounds with a budget of seconds"
    )
    arm: dict[str, Any] = members(ARMS)
    arms: list[str] = several(
        ["svd_dnn"],
        "arms to compare with the dense network, such as svd-dnn,factors,cola; `svdbench list "
        "arms` lists them",
        "--arms NAME,…",
        choices=ARMS,
    )
    rivals: bool | None = option(
        None,
        "also train smaller dense networks: with each arm's step time, with its multiplications, "
        "and of ¼, ⅜ and ½ the width",
        null="yes, unless the run is compared with published numbers",
        off="do not train smaller dense networks; by default they are trained, unless the run is "
        "compared with published numbers",
        typed="--no-rivals",
    )
    budget: TrainingBudget | None = option(
        None,
        "what is equal for all arms: steps, multiplications, or seconds",
        null="steps, or seconds with --budget",
        typed="--equal steps|multiplications|seconds",
    )
    budget_s: float | None = option(
        None,
        "seconds of training for each arm (processor time divided by the number of threads)",
        null="no limit: as many steps or multiplications as the dense network takes",
        typed="--budget SECONDS",
        above=0,
    )
    lrs: list[float] | None = several(
        None,
        "learning rates; each arm gets the best of them on a part of the training set",
        "--lrs RATE,…",
        null="optimizer.lr for all",
        above=0,
    )
    decay: DecayOf = option(
        DecayOf.product,
        "what weight decay applies to: the product of two factors, or each of them",
    )
    start: Start = option(Start.torch, "initial weights: torch's, or glorot with zero biases")
    alphas: list[float] = shares(
        [0.5],
        "shares of the singular values to keep (1: the dense network); one arm for each alpha and "
        "phi",
        "--alphas A,A,…",
        former=("--alpha",),
    )
    alpha_meaning: AlphaMeaning = option(
        AlphaMeaning.code,
        "what alpha is a share of: mn/(m + n), where factors begin to save (code), or the smaller "
        "side of a weight (text)",
        typed="--alpha-meaning code|text",
    )
    ranks: list[str] | None = option(
        None,
        "ranks of the weights instead of alpha, such as 154,85,none",
        typed="--ranks L,L,…",
        pattern=r"(?i:none)|0*[1-9]\d*",
        remedy="give a whole number of at least 1, or none, for each weight, for example "
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
    only_if_saves: bool = option(True, "leave a layer dense if factors would not save parameters")
    carry_moments: bool = option(True, "keep the optimiser's moments across the switch")
    input_gradient: bool = option(
        False, "also compute the gradient with respect to the inputs, which nothing uses"
    )
    published: list[PublishedSpeed] = option([], "numbers to compare with: see conf/experiment")

    trains_in: ClassVar[tuple[Dtype, ...]] = (Dtype.float32, Dtype.float64, Dtype.bfloat16)

    def check(self) -> None:
        super().check()
        if self.input_gradient and self.net == BYTE_LM:
            raise ValueError(
                "input_gradient needs floating-point inputs, and byte-lm reads bytes: leave it out"
            )
        if self.budget is TrainingBudget.seconds and self.budget_s is None:
            raise ValueError("budget is seconds, but their number is missing: add --budget 10")
        if self.budget_of is not TrainingBudget.seconds and self.budget_s is not None:
            raise ValueError(
                f"budget is {self.budget_of.value}, but budget_s gives seconds: leave one of them "
                "out"
            )
        if self.lrs is not None and sorted(self.lrs) != self.lrs:
            raise ValueError(f"lrs is {self.lrs}: give the rates in ascending order")

    @property
    def budget_of(self) -> TrainingBudget:
        """What all arms are given alike."""
        if self.budget is None:
            return TrainingBudget.steps if self.budget_s is None else TrainingBudget.seconds
        return self.budget

    @property
    def with_rivals(self) -> bool:
        """Whether smaller dense networks are trained, too."""
        return not self.published if self.rivals is None else self.rivals


JOB = Job("accelerate", Accelerate, __name__, DATASET, panel="Low rank", place=3)

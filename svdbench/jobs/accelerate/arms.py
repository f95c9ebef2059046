"""The arms of ``svdbench accelerate``, their ranks by α, and the multiplications that they save."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import floor
from typing import Any

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from svdbench.jobs.accelerate.config import Accelerate, Start
from svdbench.jobs.accelerate.svd_dnn import SvdDnn, switch_step
from svdbench.lowrank import Factored, LowRankLinear, factor
from svdbench.lowrank.costs import multiply_adds
from svdbench.lowrank.layers.base import bytes_of, numbers_of
from svdbench.lowrank.layers.factor import RankRule, Weight
from svdbench.members import refuse_unknown
from svdbench.side_by_side import session as side_by_side
from svdbench.side_by_side.networks import Loss, linear_layers

DENSE = "DNN"


@dataclass(frozen=True)
class AccelerateSetting:
    """What makes an arm: how many singular values are kept, and after what share of the steps.

    Attributes:
        alpha: None where each layer has a rank of its own, or stays dense.
        phi: 1 is dense throughout.
        rule: of the ranks.
        layers: what becomes of each.
        options: of :func:`svdbench.lowrank.factor`.
    """

    alpha: float | None = None
    phi: float = 1.0
    rule: RankRule = lambda weight: None
    layers: list[Factored] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def dense(self) -> bool:
        return not self.layers

    @property
    def ranks(self) -> str | None:
        """As 154-85-none; None of the dense arm."""
        return "-".join(str(layer.rank or "none") for layer in self.layers) or None

    @property
    def label(self) -> str:
        if self.dense:
            return DENSE
        kept = self.ranks if self.alpha is None else f"α {self.alpha:g}"
        return f"SVD-DNN {kept}, φ {100 * self.phi:g} %"


class AccelerateExperiment(side_by_side.Experiment[Accelerate, AccelerateSetting]):
    usual_epochs, least_steps = 20, 200

    def network(self) -> nn.Module:
        """With weights drawn from torch's generator."""
        network = super().network()
        if self.config.start is Start.glorot:
            for layer in linear_layers(network).values():
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        return network

    def counted(self) -> dict[str, float]:
        """The multiplications of a training step of each setting, by its label, per example."""
        X, y = (part[: self.batch_size] for part in self.train)
        X = X.detach().requires_grad_(self.config.input_gradient)
        network, loss = self.network(), self.family.loss
        return {
            setting.label: multiplications(
                factor(network, setting.rule, **setting.options)[0], X, y, loss
            )
            for setting in self.settings
        }


class TimedArm(SvdDnn):
    """An arm of the experiment, with its epochs.

    Args:
        network, optimizer, loss: as of every arm.
        carry: whether the optimiser's moments are carried over the switch.
    """

    def __init__(
        self,
        setting: AccelerateSetting,
        seed: int,
        network: nn.Module,
        optimizer: Optimizer,
        loss: Loss,
        *,
        steps: int,
        carry: bool,
    ) -> None:
        super().__init__(
            setting.label,
            network,
            optimizer,
            loss,
            ranks=setting.rule,
            switch=switch_step(setting.phi, steps),
            carry=carry,
            **setting.options,
        )
        self.setting = setting
        self.seed = seed

    def seconds(self) -> float:
        """Of all epochs so far, and of the switch."""
        return sum(done.seconds for done in self.history) + (self.switch_s or 0.0)


def multiplications(network: nn.Module, X: Tensor, y: Tensor, loss: Loss) -> float:
    """Of a step forward and backward, in products of matrices and convolutions, per example.

    No product is counted that isn't made: the first layer has no gradient of its input to
    find, unless X asks for one. Nor are those with the zeros that factors are padded with.
    """
    copy = deepcopy(network).train()
    for module in copy.modules():
        if isinstance(module, LowRankLinear):
            module.pads = False
    # Fused attention is not counted on every device; the plain one is, as a whole square.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss(copy(X.detach().requires_grad_(X.requires_grad)), y).backward()
    return counter.get_total_flops() / 2 / len(X)


def ceiling(dense: float, factored: float, phi: float) -> float:
    """How many times faster a training could be that does nothing but multiply."""
    return dense / (phi * dense + (1 - phi) * factored)


def size_of(network: nn.Module, X: Tensor) -> dict[str, int]:
    """Numbers, multiply-adds of a forward pass of the one example X (1, …), and bytes."""
    return {
        "n_params": numbers_of(network),
        "macs": multiply_adds(network, X),
        "bytes": bytes_of(network),
    }


ALPHA_MEANINGS = ("code", "text")


def alpha_rank(alpha: float, rows: int, columns: int, meaning: str = "code") -> int:
    """The rank l of a weight (rows, columns), 1 at least.

    * "text": l = ⌊α·min(m, n)⌋, as Sarnayak et al. 2020 say in words. At α = ½, factors of
      a square matrix have as many numbers as the matrix.
    * "code": l = ⌊α·⌊mn/(m + n)⌋⌋, as its program has it: α of the rank at which the factors
      would have as many numbers, so that a layer always saves, about 1 − α.

    Source: Sarnayak, Mohanty, Temkar, "Deep Neural Networks and Accelerating them using
    Singular Value Decomposition", 2020, §3.3.5.
    """
    refuse_unknown("meaning of alpha", [meaning], ALPHA_MEANINGS)
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha is {alpha}: give a number above 0 and at most 1")
    whole = min(rows, columns) if meaning == "text" else rows * columns // (rows + columns)
    return max(1, floor(alpha * whole))


def alpha_rule(alpha: float, meaning: str = "code") -> RankRule:
    alpha_rank(alpha, 1, 1, meaning)

    def rule(weight: Weight) -> int:
        return alpha_rank(alpha, weight.rows, weight.columns, meaning)

    return rule


def layer_rule(ranks: Sequence[int | None], weights: Sequence[str]) -> RankRule:
    """The rule that gives each weight, in the order of the layers, a rank of its own."""
    if len(ranks) != len(weights):
        raise ValueError(
            f"there are {len(ranks)} ranks for {len(weights)} weights: give one for "
            "each, or none to leave a layer dense"
        )
    by_name = dict(zip(weights, ranks, strict=True))
    return lambda weight: by_name[weight.name]

"""Self-guided training: a dense weight leads the factors at first."""

from math import cos, pi

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from svdbench.arguments import check_share
from svdbench.jobs.accelerate.arms.base import (
    ArmPlan,
    ArmState,
    LowRankArm,
    MakeOptimizer,
    exchanged_layers,
)
from svdbench.jobs.accelerate.arms.cola import linear_only
from svdbench.jobs.accelerate.moments import kept_moments
from svdbench.lowrank import Factored, LowRankLinear
from svdbench.lowrank.layers.base import Factors, two_factors


class GuidedLinear(nn.Module):
    """y = αWx + (1 − α) W₁(W₂x) + b.

    W begins as W₁W₂.

    Args:
        linear: whose sizes and bias it has.
        W1, W2: (m, r) and (r, n).

    Attributes:
        alpha: from 1, dense, to 0, factors; a tensor, so that a graph of ``torch.compile`` is not
            for one value alone.
    """

    alpha: Tensor

    def __init__(self, linear: nn.Linear, W1: Tensor, W2: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(W1 @ W2), linear.bias
        self.W1, self.W2 = nn.Parameter(W1), nn.Parameter(W2)
        self.register_buffer("alpha", W1.new_ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        low = F.linear(F.linear(x, self.W2), self.W1)
        return self.alpha * F.linear(x, self.weight) + (1 - self.alpha) * low + self._bias()

    def _bias(self) -> Tensor | float:
        return 0.0 if self.bias is None else self.bias

    def factored(self) -> LowRankLinear:
        """The layer without its dense weight."""
        m, n = self.weight.shape
        dense = nn.Linear(n, m, self.bias is not None, device="meta")
        dense.bias = self.bias
        return LowRankLinear.sharing(dense, {"weight": Factors(self.W1, self.W2)})


class SelfGuided(LowRankArm):
    """o = αWx + (1 − α)U(Vx) + b, with α from 1 to 0 by a cosine; then the factors alone.

    While α > 0 a step costs more than a dense one. U and V are those of a truncated SVD of the
    initial weight, √Σ in each, and W begins as their product; the moments of all parameters that
    stay are kept.

    Args:
        guided: the part of the budget until α is 0.

    Source: Wei, Moalla, Pascanu, Gulcehre, "Building on efficient foundations: effectively training
    LLMs with structured feedforward layers", NeurIPS 2024, arXiv:2406.16450. Compared with their
    program (CLAIRE-Labo/StructuredFFN): α, its cosine over half of the steps, and the start are the
    same. It can leave out the dense product in some steps at random (``reduce_flop``), which is
    not done here. It factors feed-forward blocks, this arm all linear layers but the last.
    """

    name, title = "self_guided", "self-guided"
    source = "Wei et al. 2024"
    truncates = True

    def __init__(self, guided: float = 0.5) -> None:
        check_share(guided=guided)
        self.guided = guided

    def check(self, network: nn.Module, plan: ArmPlan) -> list[Factored]:
        return linear_only(network, plan)

    def changes(self, plan: ArmPlan) -> tuple[float, ...]:
        return (0.0, self.guided)

    def changed(self, network: nn.Module, plan: ArmPlan, number: int) -> nn.Module:
        if number:
            guided = [(m, m.factored()) for m in network.modules() if isinstance(m, GuidedLinear)]
            return exchanged_layers(network, guided)
        return exchanged_layers(
            network,
            [
                (layer, GuidedLinear(layer, *two_factors(layer.weight.detach(), rank)))
                for layer, rank in plan.linear(network).items()
            ],
        )

    def optimizer(
        self, before: Optimizer, old: nn.Module, new: nn.Module, plan: ArmPlan, make: MakeOptimizer
    ) -> Optimizer:
        made = make(new)
        if plan.carry_moments:
            made.state.update(kept_moments(before, old, new))
        return made

    def before_step(self, network: nn.Module, state: ArmState) -> None:
        alpha = guide(state.done / self.guided)
        for module in network.modules():
            if isinstance(module, GuidedLinear):
                module.alpha.fill_(alpha)


def guide(done: float) -> float:
    """α after a part of its time: ½(1 + cos πt), and 0 from t = 1 on."""
    return (1 + cos(pi * min(max(done, 0.0), 1.0))) / 2

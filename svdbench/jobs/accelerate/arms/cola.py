"""CoLA: a nonlinearity between the factors."""

import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.jobs.accelerate.arms.base import (
    ArmPlan,
    LowRankArm,
    exchanged_layers,
    random_factors,
)
from svdbench.lowrank import Factored


class LowRankActivation(nn.Module):
    """y = B σ(A x) + b with σ = SiLU.

    Args:
        A: (rank, in_features).
        B: (out_features, rank).
        bias: (out_features,), or None.
    """

    def __init__(self, A: Tensor, B: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.silu(F.linear(x, self.A)), self.B, self.bias)


class Cola(LowRankArm):
    """y = B σ(A x) + b with σ = SiLU in place of W x + b, for linear layers.

    A network of this kind has no dense one that does the same. The activations between its layers
    stay. Random factors as of ``factors``, with twice the deviation of B, as σ halves what passes.
    A and B, and that σ is SiLU, are as in the paper's equation 3; the start is ours.

    Source: Liu et al., "CoLA: Compute-efficient pre-training of LLMs via low-rank activation",
    2025, arXiv:2502.10940.
    """

    name, title = "cola", "CoLA"
    source = "Liu et al. 2025"

    def check(self, network: nn.Module, plan: ArmPlan) -> list[Factored]:
        return linear_only(network, plan)

    def changed(self, network: nn.Module, plan: ArmPlan, number: int) -> nn.Module:
        draw = plan.generator(network)
        new = []
        for layer, rank in plan.linear(network).items():
            B, A = random_factors(layer.weight.detach(), rank, draw, gain=2.0)
            new.append((layer, LowRankActivation(A, B, layer.bias)))
        return exchanged_layers(network, new)


def linear_only(network: nn.Module, plan: ArmPlan) -> list[Factored]:
    """The weights of an arm that replaces linear layers alone.

    Raises:
        ValueError: there would be none.
    """
    linear = plan.linear(network)
    found = []
    for site, decision in plan.chosen(network):
        if decision.rank is not None and site.uses[0].module not in linear:
            decision = Factored(site.weight, None, "not a linear layer of its own")
        found.append(decision)
    return found

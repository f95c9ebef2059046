"""CoLA: a nonlinearity between the factors."""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.jobs.accelerate.arms.base import (
    ArmPlan,
    LowRankArm,
    exchanged_layers,
    random_factors,
)
from svdbench.lowrank import Factored

STARTS = ("variance", "published")


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
    stay.

    Args:
        start: ``variance``: random factors as of ``factors``, with twice the deviation of B, as σ
            halves what passes; or ``published``: both of deviation (r(m + n))^−¼, so that BA has
            (m + n)^−½ whatever the dense weight has.

    Source: Liu et al., "CoLA: Compute-efficient pre-training of LLMs via low-rank activation",
    EMNLP 2025, arXiv:2502.10940, equation 3. Compared with the ``ColaLayer`` of their program
    (alvin-zyl/CoLA) in copies of it: σ after A and SiLU are the same. Their biases are drawn anew;
    ours are the dense layer's.
    """

    name, title = "cola", "CoLA"
    source = "Liu et al. 2025"

    def __init__(self, start: str = "variance") -> None:
        if start not in STARTS:
            raise ValueError(f"start is {start!r}: choose {' or '.join(STARTS)}")
        self.start = start

    def check(self, network: nn.Module, plan: ArmPlan) -> list[Factored]:
        return linear_only(network, plan)

    def changed(self, network: nn.Module, plan: ArmPlan, number: int) -> nn.Module:
        draw = plan.generator(network)
        new = []
        for layer, rank in plan.linear(network).items():
            W = layer.weight.detach()
            if self.start == "published":
                B, A = published_factors(W, rank, draw)
            else:
                B, A = random_factors(W, rank, draw, gain=2.0)
            new.append((layer, LowRankActivation(A, B, layer.bias)))
        return exchanged_layers(network, new)


@torch.no_grad()
def published_factors(W: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """B (m, rank) and A (rank, n) from N(0, (rank·(m + n))^−½), for a weight W (m, n)."""
    m, n = W.shape
    std = 1 / sqrt(sqrt(rank * (m + n)))
    B, A = W.new_empty(m, rank), W.new_empty(rank, n)
    return B.normal_(0, std, generator=generator), A.normal_(0, std, generator=generator)


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

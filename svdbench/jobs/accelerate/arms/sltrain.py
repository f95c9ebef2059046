"""SLTrain: a weight as a product of low rank plus a sparse matrix."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.jobs.accelerate.arms.base import ArmPlan, LowRankArm, exchanged_layers
from svdbench.jobs.accelerate.arms.cola import linear_only
from svdbench.lowrank import Factored


class SparsePlusLowRank(nn.Module):
    """y = Wx + b with W = (α/r)·BA + S, S zero outside a fixed support.

    W is made anew in every step, so a step has more multiplications than a dense one.

    Args:
        linear: whose sizes and bias it has.
        rank: r of B (m, r), which is 0 at first, and A (r, n), from U(−n^−½, n^−½).
        density: the part of the entries that S has, at first from the same distribution as A.
        scale: α.
    """

    def __init__(
        self,
        linear: nn.Linear,
        rank: int,
        density: float,
        scale: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        W = linear.weight.detach()
        m, n = W.shape
        count = max(1, int(density * m * n))
        self.scale = scale / rank
        bound = n**-0.5
        self.B = nn.Parameter(W.new_zeros(m, rank))
        self.A = nn.Parameter(W.new_empty(rank, n).uniform_(-bound, bound, generator=generator))
        self.values = nn.Parameter(W.new_empty(count).uniform_(-bound, bound, generator=generator))
        places = torch.randperm(m * n, generator=generator, device=W.device)[:count]
        self.register_buffer("places", places.sort().values.to(torch.int32))
        self.places: Tensor
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())

    @property
    def weight(self) -> Tensor:
        low = self.scale * (self.B @ self.A)
        return low.flatten().index_add(0, self.places, self.values).view_as(low)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    @torch.no_grad()
    def to_linear(self) -> nn.Linear:
        """The dense layer that does the same."""
        weight = self.weight
        dense = nn.Linear(weight.shape[1], weight.shape[0], self.bias is not None, device="meta")
        dense.weight = nn.Parameter(weight)
        if self.bias is not None:
            dense.bias = nn.Parameter(self.bias.detach().clone())
        return dense.train(self.training)


class SlTrain(LowRankArm):
    """W = (α/r)·BA + S of each linear layer, S sparse on a fixed random support, B = 0 at first.

    It saves no multiplications: it saves bytes, those of parameters and moments.

    Args:
        density: the part of the entries that S has.
        scale: α. Theirs is 32, 16 and 8 at ranks of 128, 256 and 512.

    Source: Han et al., "SLTrain: a sparse plus low-rank approach for parameter and memory efficient
    pretraining", NeurIPS 2024, arXiv:2406.02214. Compared with their program (andyjm3/SLTrain):
    scale, support and start are the same. Theirs makes W anew in the backward pass, and this one
    keeps it from the forward pass, so the memory of a step differs. Their biases are drawn anew;
    ours are the dense layer's. Theirs replaces the linear layers of attention and MLP; this arm all
    linear layers but the last.
    """

    name, title = "sltrain", "SLTrain"
    source = "Han et al. 2024"

    def __init__(self, density: float = 0.03, scale: float = 16.0) -> None:
        if not 0 < density <= 1 or not scale > 0:
            raise ValueError(
                f"density is {density} and scale {scale}: give a number above 0 and at most 1, "
                "and one above 0"
            )
        self.density, self.scale = density, scale

    def check(self, network: nn.Module, plan: ArmPlan) -> list[Factored]:
        return linear_only(network, plan)

    def changed(self, network: nn.Module, plan: ArmPlan, number: int) -> nn.Module:
        draw = plan.generator(network)
        return exchanged_layers(
            network,
            [
                (layer, SparsePlusLowRank(layer, rank, self.density, self.scale, draw))
                for layer, rank in plan.linear(network).items()
            ],
        )

    def dense(self, network: nn.Module) -> nn.Module:
        made = [(m, m.to_linear()) for m in network.modules() if isinstance(m, SparsePlusLowRank)]
        return exchanged_layers(network, made)

"""GaLore: Adam on gradients projected to low rank."""

from collections.abc import Callable
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from svdbench.jobs.accelerate.arms.base import ArmPlan, LowRankArm, MakeOptimizer
from svdbench.lowrank import Factored


class GaLoreAdam(Optimizer):
    """Adam whose moments are those of the projected gradient.

    With G the gradient of a weight (m, n), m ≤ n, and P = U[:, :r] of its SVD every ``every``
    steps, from the first on, Adam takes PᵀG (r, n), and the weight changes by −η·scale·P·Adam(PᵀG).
    A tall weight is projected on the other side. The moments stay as they are when P changes. At
    r = min(m, n) nothing is projected, and it is Adam.

    Args:
        groups: of parameters; with ``rank`` those that are projected. ``decoupled`` makes weight
            decay AdamW's, which neither the projection nor the moments see.
        every: steps between two SVDs.
        scale: of projected updates.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        every: int = 200,
        scale: float = 0.25,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "rank": None}
        own = {"decoupled": False, "every": every, "scale": scale}
        super().__init__(groups, defaults | own)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise ValueError("GaLoreAdam takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, rank = self.state[parameter], group["rank"]
        if group["weight_decay"] and group["decoupled"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        elif group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        projected = rank is not None and rank < min(gradient.shape)
        step = state["step"] = state.get("step", 0) + 1
        if projected:
            if (step - 1) % group["every"] == 0:
                state["P"] = projection(gradient, rank)
            gradient = into(state["P"], gradient)
        if step == 1:
            state["exp_avg"] = torch.zeros_like(gradient)
            state["exp_avg_sq"] = torch.zeros_like(gradient)
        beta1, beta2 = group["betas"]
        state["exp_avg"].lerp_(gradient, 1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = (state["exp_avg_sq"].sqrt() / sqrt(1 - beta2**step)).add_(group["eps"])
        update = state["exp_avg"] / root / (1 - beta1**step)
        if projected:
            update = group["scale"] * back(state["P"], update)
        parameter.add_(update, alpha=-group["lr"])


@torch.no_grad()
def projection(G: Tensor, rank: int) -> Tensor:
    """The first singular vectors of G (m, n) on its shorter side, (min(m, n), rank)."""
    short = G if G.shape[0] <= G.shape[1] else G.mT
    # Of the short side's Gram matrix, in double precision: as good as the SVD of G, and cheaper.
    double = short.double()
    _, vectors = torch.linalg.eigh(double @ double.mT)
    return vectors[:, -rank:].flip(1).to(G.dtype).contiguous()


def into(P: Tensor, G: Tensor) -> Tensor:
    """PᵀG of a wide G, GP of a tall one."""
    return P.mT @ G if G.shape[0] <= G.shape[1] else G @ P


def back(P: Tensor, low: Tensor) -> Tensor:
    """The inverse on the span of P: P·low, or low·Pᵀ."""
    return P @ low if low.shape[0] == P.shape[1] else low @ P.mT


class GaLore(LowRankArm):
    """Dense weights, and Adam's moments in r dimensions of the shorter side.

    It saves no multiplications: it saves bytes, those of the optimiser's state.

    Args:
        every: steps between two SVDs of a gradient.
        scale: α of the update.

    Source: Zhao et al., "GaLore: memory-efficient LLM training by gradient low-rank projection",
    ICML 2024, arXiv:2403.03507, algorithm 2. Compared with their program (jiaweizzhao/GaLore,
    ``galore_torch``): projection, moments, scale and times of the SVD are the same. Theirs
    projects a square gradient on its right side, this one, as the algorithm, on its left. Its ε of
    1e-6 is added before the bias correction, ours as in :class:`torch.optim.Adam`. It projects
    the linear layers of attention and MLP; this arm all matrices but the last layer's.
    """

    name, title = "galore", "GaLore"
    source = "Zhao et al. 2024"

    def __init__(self, every: int = 200, scale: float = 0.25) -> None:
        if every < 1 or not scale > 0:
            raise ValueError(
                f"every is {every} and scale {scale}: give steps of at least 1, and a scale above 0"
            )
        self.every, self.scale = every, scale

    def check(self, network: nn.Module, plan: ArmPlan) -> list[Factored]:
        return [
            Factored(each.weight, None, each.reason or f"its moments have rank {each.rank}")
            for each in plan.weights(network)
        ]

    def changed(self, network: nn.Module, plan: ArmPlan, number: int) -> nn.Module:
        return network

    def optimizer(
        self, before: Optimizer, old: nn.Module, new: nn.Module, plan: ArmPlan, make: MakeOptimizer
    ) -> Optimizer:
        if not isinstance(before, Adam | AdamW):
            raise ValueError("galore projects the moments of Adam: use optimizer=adam")
        ranks = {
            id(site.uses[0].part.parameter): decision.rank
            for site, decision in plan.chosen(new)
            if decision.rank is not None and site.uses[0].part.parameter.ndim == 2
        }
        [group] = before.param_groups
        shared = {key: group[key] for key in ("lr", "eps", "weight_decay")}
        shared["decoupled"] = isinstance(before, AdamW)
        by_rank: dict[int | None, list[nn.Parameter]] = {}
        for parameter in new.parameters():
            by_rank.setdefault(ranks.get(id(parameter)), []).append(parameter)
        groups = [{"params": own, "rank": rank, **shared} for rank, own in by_rank.items()]
        return GaLoreAdam(
            groups, group["lr"], tuple(group["betas"]), group["eps"], self.every, self.scale
        )

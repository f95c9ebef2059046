"""Cuttlefish: ranks, and the switch to them, by stable rank."""

from collections.abc import Sequence
from math import ceil, floor

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from svdbench.jobs.accelerate.arms.base import ArmPlan, ArmState, LowRankArm, MakeOptimizer
from svdbench.jobs.accelerate.arms.svd_dnn import carried
from svdbench.lowrank import Factored, factor


class Cuttlefish(LowRankArm):
    """Dense until the stable ranks settle, then factors of rank r = ⌈ξρ⌉ of each layer.

    ρ = ⌊Σσ²/σ₁²⌋ is a weight's stable rank, and ξ = rank/ρ₀ its full rank over ρ at the start, so
    that a new weight keeps its full rank. A weight has settled when |dρ/depoch| of the exponential
    moving average of ρ over ``window`` epochs is at most ``slope`` on average over the last ¾ of a
    window; the arm switches when all have. It needs its epochs: with the program's window of 15 it
    can't switch before 15 are over, and in a training of a few the arm is dense throughout. With a
    budget of seconds or multiplications a round counts as an epoch.

    Args:
        slope: of ρ over an epoch at which it has settled.
        window: epochs of the average, and before the first question; 15 in the program.

    Source: Wang, Agarwal, U-chupala, Tanaka, Xing, Papailiopoulos, "Cuttlefish: low-rank model
    training without all the tuning", MLSys 2023, arXiv:2305.02538. Compared with their program
    (hwang595/Cuttlefish, ``utils.py``): ρ, ξ, r, average, slope and factors are the same. It lets
    the last two weights settle at 2.5 and 5 times the slope, has first layers that stay dense,
    found by timing, begins with new moments at the switch, and makes two convolutions k×k and 1×1
    of one. Here all weights have one slope, the last layer alone stays dense, moments are carried
    over, and a convolution becomes a column and a row.
    """

    name, title = "cuttlefish", "Cuttlefish"
    source = "Wang et al. 2023"
    takes_alpha, truncates = False, True

    def __init__(self, slope: float = 0.1, window: int = 3) -> None:
        if not slope > 0 or window < 1:
            raise ValueError(
                f"slope is {slope} and window {window}: give a number above 0, and one of at "
                "least 1"
            )
        self.slope, self.window = slope, window
        self.stable: dict[str, list[int]] = {}
        self.full: dict[str, int] = {}
        self.settled: set[str] = set()

    def check(self, network: nn.Module, plan: ArmPlan) -> list[Factored]:
        reason = "its rank is known at the switch"
        return [
            Factored(each.weight, None, each.reason or reason)
            for each in self._plan(plan).weights(network)
        ]

    def changes(self, plan: ArmPlan) -> tuple[float, ...]:
        return ()

    def before_step(self, network: nn.Module, state: ArmState) -> None:
        if not self.stable:
            for name, (rho, full) in self._ranks_now(network).items():
                self.stable[name], self.full[name] = [rho], full

    def wants_change(self, network: nn.Module, state: ArmState) -> bool:
        for name, (rho, _) in self._ranks_now(network).items():
            self.stable[name].append(rho)
        self.settled |= {
            name
            for name, found in self.stable.items()
            if len(found) > self.window and slope_of(found, self.window) <= self.slope
        }
        return self.settled == set(self.stable)

    def changed(self, network: nn.Module, plan: ArmPlan, number: int) -> nn.Module:
        ranks = self.ranks()
        small, _ = factor(
            network,
            lambda weight: ranks.get(weight.name),
            skip_last=plan.skip_last,
            only_if_saves=True,
        )
        return small

    def optimizer(
        self, before: Optimizer, old: nn.Module, new: nn.Module, plan: ArmPlan, make: MakeOptimizer
    ) -> Optimizer:
        return carried(before, old, new, plan, make)

    def ranks(self) -> dict[str, int]:
        """r = ⌈ξρ⌉ of each weight, its full rank at most."""
        return {
            name: min(self.full[name], ceil(self.full[name] / found[0] * found[-1] - 1e-9))
            for name, found in self.stable.items()
        }

    def _plan(self, plan: ArmPlan) -> ArmPlan:
        return ArmPlan(lambda weight: 1, plan.skip_last, plan.only_if_saves)

    def _ranks_now(self, network: nn.Module) -> dict[str, tuple[int, int]]:
        """⌊ρ⌋ and the full rank of each weight."""
        return {
            site.name: (
                floor(stable_rank(site.matrix) + 1e-9),
                min(site.weight.rows, site.weight.columns),
            )
            for site, decision in ArmPlan(lambda weight: 1, skip_last=False).chosen(network)
            if decision.rank is not None
        }


@torch.no_grad()
def stable_rank(W: Tensor) -> float:
    """Σσ²/σ₁² of W (m, n), or its mean over (groups, m, n)."""
    highest = torch.linalg.matrix_norm(W.double(), 2)
    return float((W.double().square().sum((-2, -1)) / highest.square()).mean())


def slope_of(ranks: Sequence[int], window: int) -> float:
    """The mean |slope| of the smoothed ranks over the last ¾ of a window.

    Smoothed by an exponential moving average with weight 2/(window + 1). Slopes are central
    differences, one-sided at both ends.

    Args:
        ranks: two or more, of one epoch after the other.

    Example:
        >>> slope_of([8, 8, 8], window=3), slope_of([8, 6], window=1)
        (0.0, 2.0)
    """
    weight, smooth = 2 / (window + 1), [float(ranks[0])]
    for rank in ranks[1:]:
        smooth.append(weight * rank + (1 - weight) * smooth[-1])
    (slopes,) = torch.gradient(torch.tensor(smooth, dtype=torch.float64))
    return float(slopes[-max(1, round(0.75 * window)) :].abs().mean())

"""Cuttlefish: ranks, and the switch to them, by stable rank."""

from math import ceil

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from svdbench.jobs.accelerate.arms.base import ArmPlan, ArmState, LowRankArm, MakeOptimizer
from svdbench.jobs.accelerate.arms.svd_dnn import carried
from svdbench.lowrank import Factored, factor


class Cuttlefish(LowRankArm):
    """Dense until the stable ranks settle, then factors of rank r = ⌈ξρ⌉ of each layer.

    ρ = Σσ²/σ₁² is a weight's stable rank, and ξ = rank/ρ₀ its full rank over ρ at the start, so
    that a new weight keeps its full rank. It switches when |dρ/depoch|, the mean over ``window``
    epochs, is at most ``slope`` for every weight. It needs its epochs: in the paper the switch
    comes after about 15 to 80 of hundreds. In a training of a few it never comes, and the arm is
    dense throughout. With a budget of seconds or multiplications a round counts as an epoch.

    Args:
        slope: of ρ over an epoch at which it has settled.
        window: epochs of the mean.

    Source: Wang, Agarwal, Tanchum, Papailiopoulos, "Cuttlefish: low-rank model training without
    all the tuning", MLSys 2023, arXiv:2305.02538. Its profiling, which leaves the first layers
    dense, is not done here; the last layer stays dense.
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
        self.stable: list[dict[str, float]] = []
        self.full: dict[str, int] = {}

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
            self._look(network)

    def wants_change(self, network: nn.Module, state: ArmState) -> bool:
        self._look(network)
        if len(self.stable) <= self.window:
            return False
        now, then = self.stable[-1], self.stable[-1 - self.window]
        return all(abs(now[name] - then[name]) / self.window <= self.slope for name in now)

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
        first, now = self.stable[0], self.stable[-1]
        return {
            name: min(full, ceil(full / first[name] * now[name] - 1e-9))
            for name, full in self.full.items()
        }

    def _plan(self, plan: ArmPlan) -> ArmPlan:
        return ArmPlan(lambda weight: 1, plan.skip_last, plan.only_if_saves)

    def _look(self, network: nn.Module) -> None:
        found = {}
        for site, decision in ArmPlan(lambda weight: 1, skip_last=False).chosen(network):
            if decision.rank is not None:
                found[site.name] = stable_rank(site.matrix)
                self.full.setdefault(site.name, min(site.weight.rows, site.weight.columns))
        self.stable.append(found)


@torch.no_grad()
def stable_rank(W: Tensor) -> float:
    """Σσ²/σ₁² of W (m, n), or its mean over (groups, m, n)."""
    highest = torch.linalg.matrix_norm(W.double(), 2)
    return float((W.double().square().sum((-2, -1)) / highest.square()).mean())

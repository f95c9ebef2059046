"""Random factors from the first step."""

from torch import nn

from svdbench.jobs.accelerate.arms.base import ArmPlan, LowRankArm


class RandomFactors(LowRankArm):
    """Random factors from the first step, whose product has the variance of the dense weight.

    std(V) = n^−½ and std(U) = std(W)/(std(V)√r) for U (m, r), V (r, n) in place of W (m, n).
    """

    name, title = "factors", "factors"
    source = "variance of the dense weight (Glorot and Bengio 2010)"

    def changed(self, network: nn.Module, plan: ArmPlan, number: int) -> nn.Module:
        return plan.random(network)

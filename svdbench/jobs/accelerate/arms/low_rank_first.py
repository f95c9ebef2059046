"""Factors first, dense at the end."""

from torch import nn

from svdbench.arguments import check_share
from svdbench.jobs.accelerate.arms.base import ArmPlan, LowRankArm


class LowRankFirst(LowRankArm):
    """Factors by truncated SVDs from the first step, multiplied out for the last part.

    The dense weights start without moments, as those of factors do not determine them.

    Args:
        last: the part of the budget that is trained dense, at the end.
    """

    name, title = "low_rank_first", "low rank first"
    source = "the reverse of SVD-DNN"
    truncates = True

    def __init__(self, last: float = 0.25) -> None:
        check_share(last=last)
        self.last = last

    def changes(self, plan: ArmPlan) -> tuple[float, ...]:
        return (0.0, 1 - self.last)

    def changed(self, network: nn.Module, plan: ArmPlan, number: int) -> nn.Module:
        return self.dense(network) if number else plan.truncated(network)

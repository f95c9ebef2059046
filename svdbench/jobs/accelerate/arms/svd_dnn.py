"""SVD-DNN: dense for a part φ of the budget, then in factors."""

from torch import nn
from torch.optim import Optimizer

from svdbench.jobs.accelerate.arms.base import ArmPlan, LowRankArm, MakeOptimizer
from svdbench.jobs.accelerate.moments import carry_moments


class SvdDnn(LowRankArm):
    """Dense for a part φ of the budget, then W₁(W₂x) + b of each layer, by truncated SVDs.

    The optimiser's moments are carried over to the factors, or start from zero
    (``carry_moments=false``).

    Sources: Cai, Ke, Xu, Su, "Fast learning of deep neural networks via singular value
    decomposition", PRICAI 2014; Sarnayak, Mohanty, Temkar, "Deep Neural Networks and Accelerating
    them using Singular Value Decomposition", 2020.
    """

    name, title = "svd_dnn", "SVD-DNN"
    source = "Cai et al. 2014; Sarnayak et al. 2020"
    takes_phi, truncates = True, True

    def changes(self, plan: ArmPlan) -> tuple[float, ...]:
        return (plan.phi,)

    def changed(self, network: nn.Module, plan: ArmPlan, number: int) -> nn.Module:
        return plan.truncated(network)

    def optimizer(
        self, before: Optimizer, old: nn.Module, new: nn.Module, plan: ArmPlan, make: MakeOptimizer
    ) -> Optimizer:
        return carried(before, old, new, plan, make)


def carried(
    before: Optimizer, old: nn.Module, new: nn.Module, plan: ArmPlan, make: MakeOptimizer
) -> Optimizer:
    """A new optimiser with the moments of the old one, if the plan wants that."""
    made = make(new)
    if plan.carry_moments:
        made.state.update(carry_moments(before, old, new).state)
    return made


class SvdDnnReset(SvdDnn):
    """SVD-DNN whose factors start without moments, as in the program of Sarnayak et al. 2020.

    For a comparison within a run; ``carry_moments=false`` is for all arms.
    """

    name, title = "svd_dnn_reset", "SVD-DNN, moments reset,"
    source = "Sarnayak et al. 2020"

    def optimizer(
        self, before: Optimizer, old: nn.Module, new: nn.Module, plan: ArmPlan, make: MakeOptimizer
    ) -> Optimizer:
        return make(new)

"""Factors from truncated SVDs of the initial weights, with Frobenius decay."""

from torch import nn

from svdbench.jobs.accelerate.arms.base import ArmPlan, LowRankArm
from svdbench.jobs.accelerate.moments import add_product_decay
from svdbench.lowrank.layers.factor import low_rank_modules


class SpectralStart(LowRankArm):
    """Factors U = Ũ√Σ, V = √ΣṼᵀ of the initial weights, and weight decay of their product.

    The penalty is λ/2·‖UV‖²_F, so its gradients are λUVVᵀ and λUᵀUV. Without it this is SVD-DNN
    at φ = 0.

    Args:
        decay: λ, besides the weight decay of the configuration.
        restore_norm: multiply both factors by (‖W‖/‖W_r‖)^½, as truncation takes most of the norm
            of a random weight away. An option of ours.

    Source: Khodak, Tenenholtz, Mackey, Fusi, "Initialization and regularization of factorized
    neural layers", ICLR 2021, §3. Compared with their program (microsoft/fnl_paper, ``frob.py``):
    start, gradients of the decay, λ = 1e-4 and the folding of convolutions, as a row and a column,
    are the same. It gives a weight a part of min(m, n) as its rank; here α decides.
    """

    name, title = "spectral", "spectral start"
    source = "Khodak et al. 2021"
    truncates = True

    def __init__(self, decay: float = 1e-4, restore_norm: bool = False) -> None:
        if not decay >= 0:
            raise ValueError(f"decay is {decay}: give 0 or more")
        self.decay, self.restore_norm = decay, restore_norm

    def changed(self, network: nn.Module, plan: ArmPlan, number: int) -> nn.Module:
        small = plan.truncated(network)
        if self.restore_norm:
            restore_norms(network, small)
        return small

    def before_update(self, network: nn.Module, plan: ArmPlan) -> None:
        if self.decay:
            add_product_decay(network, self.decay)


def restore_norms(dense: nn.Module, small: nn.Module) -> None:
    """Scale both factors of each weight by (‖W‖/‖W_r‖)^½."""
    for path, module in low_rank_modules(small):
        for name, pair in module.factors.items():
            W = dense.get_parameter(f"{path}.{name}" if path else name).detach()
            both = [module.get_parameter(own) for own in pair]
            short = module.product(*(one.detach() for one in both))
            scale = (W.norm() / short.norm()).sqrt()
            for one in both:
                one.data.mul_(scale)

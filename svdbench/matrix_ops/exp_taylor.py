"""e^W X by a Taylor series applied to X alone."""

import torch
from torch import Tensor

from svdbench.algorithm import Flops, Problem

from ._flops import exponential_series
from .exp_dense import ExpDense


class ExpTaylor(ExpDense):
    """e^μ Σ (W − μI)ʲ X / j! with μ the mean eigenvalue, until a term no longer counts.

    The exponential is never formed. torch has no function for it, but where W is near
    a multiple of the identity nothing dense is faster, so this is the one to beat.
    Large ‖W − μI‖ would need the scaling of the source; without, digits cancel, and
    the gate says so.
    """

    kind = "taylor"
    builds = "product"
    gradients = "autograd"
    source = "Al-Mohy and Higham, Computing the Action of the Matrix Exponential, SISC 2011"

    def apply(self, W: Tensor, X: Tensor) -> Tensor:
        # Any constant μ gives the same function of W, so it needs no gradient.
        mean = W.detach().diagonal().mean()
        total = term = X
        for j in range(1, 101):
            term = torch.sub(W @ term, mean * term) / j
            total = total + term
            if term.detach().norm() <= _tolerance(X.dtype) * total.detach().norm():
                break
        return mean.exp() * total

    def flops(self, problem: Problem) -> Flops:
        return exponential_series(problem, _tolerance(problem.dtype))


def _tolerance(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps / 2

"""torch's orthogonal parametrisation with the matrix exponential."""

from ._skew import ExpOfTriangle, exp_flops
from ._torch_parametrization import TorchParametrization
from .base import Flops, Problem


class TorchMatrixExp(ExpOfTriangle, TorchParametrization):
    """exp(A) X with A = tril(V) − tril(V)ᵀ."""

    kind = "exponential"
    gradients = "torch's, by the exponential of a doubled matrix"
    map = "matrix_exp"

    def flops(self, problem: Problem) -> Flops:
        return exp_flops(problem, entries=1)

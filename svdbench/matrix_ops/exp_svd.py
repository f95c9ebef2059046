"""e^W X through the factors."""

from torch import Tensor

from svdbench.nn import factored

from ._plain import through_factors
from .base import Factored


class ExpSVD(Factored):
    """U e^Σ Uᵀ X with W = U Σ Uᵀ."""

    operation = "exp"
    symmetric = True

    def apply(self, U: Tensor, s: Tensor, X: Tensor) -> Tensor:
        return factored.exp_apply(U, s, X)

    def reference(self, U: Tensor, s: Tensor, X: Tensor) -> Tensor:
        return through_factors(U, s.exp(), U, X)

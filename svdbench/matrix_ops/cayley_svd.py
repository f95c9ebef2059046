"""The Cayley map through the factors."""

from torch import Tensor

from svdbench.nn import factored

from ._plain import through_factors
from .base import Factored


class CayleySVD(Factored):
    """U (1 − Σ)/(1 + Σ) Uᵀ X with W = U Σ Uᵀ."""

    operation = "cayley"
    symmetric = True

    def apply(self, U: Tensor, s: Tensor, X: Tensor) -> Tensor:
        return factored.cayley_apply(U, s, X)

    def reference(self, U: Tensor, s: Tensor, X: Tensor) -> Tensor:
        return through_factors(U, 2 / (1 + s) - 1, U, X)

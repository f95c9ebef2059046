"""W⁻¹ X through the factors."""

from torch import Tensor

from svdbench.nn import factored

from ._plain import through_factors
from .base import Factored


class InverseSVD(Factored):
    """V Σ⁻¹ Uᵀ X."""

    operation = "inverse"

    def apply(self, U: Tensor, s: Tensor, V: Tensor, X: Tensor) -> Tensor:
        return factored.inverse_apply(U, s, V, X)

    def reference(self, U: Tensor, s: Tensor, V: Tensor, X: Tensor) -> Tensor:
        return through_factors(V, 1 / s, U, X)

"""W X and log|det W| through the factors."""

from torch import Tensor

from svdbench.nn import factored

from ._plain import through_factors
from .base import Factored


class LogdetSVD(Factored):
    """U Σ Vᵀ X and Σ log|σ|, what a layer of a normalising flow has to give.

    The product belongs to the step, in both ways: log|det W| alone is a sum of d
    numbers here, while whatever W is for takes the products of reflectors.
    """

    operation = "logdet"
    scalar = True

    def apply(self, U: Tensor, s: Tensor, V: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
        return factored.apply(U, s, V, X), factored.logabsdet(s)

    def reference(self, U: Tensor, s: Tensor, V: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
        return through_factors(U, s, V, X), (s * s).log().sum() / 2

"""torch.linalg.householder_product: LAPACK's orgqr."""

import torch
from torch import Tensor

from ._lapack import Trapezoidal, columns, product_flops
from ._skip import half_precision, not_square
from .base import Flops, Problem


class HouseholderProduct(Trapezoidal):
    """Q = H(a₁)⋯H(a_d), then Q X; aᵢ is row i of V (d, d) right of a diagonal of ones.

    With n < d reflectors torch gives the first n columns of Q only.
    """

    kind = "reflectors"
    builds = "Q"
    gradients = "torch's, reflector by reflector"
    source = "torch.linalg.householder_product (LAPACK orgqr)"

    def skip(self, problem: Problem) -> str | None:
        what = "torch.linalg.householder_product"
        return not_square(problem, what) or half_precision(problem, what)

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        return torch.linalg.householder_product(*columns(V)) @ X

    def flops(self, problem: Problem) -> Flops:
        return product_flops(problem)

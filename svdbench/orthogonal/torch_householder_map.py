"""torch's orthogonal parametrisation with Householder reflectors."""

import torch
from torch import Tensor

from svdbench.kernels import apply_reflectors_reference

from ._lapack import product_flops, rows
from ._torch_parametrization import TorchParametrization
from .base import Flops, Problem


class TorchHouseholderMap(TorchParametrization):
    """H(a₁)⋯H(a_d) D X: the columns of V below a diagonal of ones, and its signs D."""

    kind = "reflectors"
    gradients = "torch's, reflector by reflector"
    map = "householder"

    def parameter(self, V: Tensor) -> Tensor:
        """V with ±3/2 on its diagonal, which the map truncates to the signs ±1.

        Anything in [1, 2) gives the same; at 1 itself, rounding could make it 0.
        """
        V = V.detach().clone()
        V.diagonal().copy_(torch.where(V.diagonal() < 0, -1.5, 1.5))
        return V

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        signs = V.detach().diagonal().sign()
        return apply_reflectors_reference(rows(V.T), signs.unsqueeze(-1) * X)

    def flops(self, problem: Problem) -> Flops:
        return product_flops(problem)

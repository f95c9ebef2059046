"""PyTorch's own orthogonal parametrisation, by each of its three maps."""

from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from svdbench.kernels import apply_reflectors_reference
from svdbench.measure.costs import half_precision, not_square

from .base import Flops, Method, Problem
from .lapack import product_flops, rows
from .skew import ExpOfTriangle, cayley_flops, exp_flops, scaled, skew


class TorchParametrization(Method):
    """torch.nn.utils.parametrizations.orthogonal of a weight V (d, d), then Q X.

    ``use_trivialization=False``: with it, Q is multiplied by a fixed base as well.
    All three maps read the lower triangle of V only.
    """

    builds = "Q"
    map: ClassVar[str]
    source = "torch.nn.utils.parametrizations.orthogonal"

    def skip(self, problem: Problem) -> str | None:
        what = f"torch's {self.map} map"
        fault = "returns NaN" if self.map == "matrix_exp" else "has no kernel"
        return not_square(problem, what) or half_precision(problem, what, fault)

    def prepare(self, V: Tensor, X: Tensor) -> None:
        layer = nn.Module()
        layer.weight = nn.Parameter(V.detach().clone())
        orthogonal(layer, "weight", self.map, use_trivialization=False)
        self.parametrization: nn.Module = cast(Any, layer).parametrizations.weight[0]

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        Q: Tensor = self.parametrization(V)
        return Q @ X


class TorchCayley(TorchParametrization):
    """(I − A/2)⁻¹(I + A/2) X with A = tril(V) − tril(V)ᵀ."""

    name = "torch_cayley"
    kind, map = "cayley", "cayley"
    gradients = "torch's, by the LU factors of the forward pass"

    def parameter(self, V: Tensor) -> Tensor:
        return scaled(V)

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        half = skew(V.tril()) / 2
        eye = torch.eye(V.shape[0], dtype=V.dtype, device=V.device)
        return torch.linalg.inv(eye - half) @ (eye + half) @ X

    def flops(self, problem: Problem) -> Flops:
        return cayley_flops(problem)


class TorchHouseholderMap(TorchParametrization):
    """H(a₁)⋯H(a_d) D X: the columns of V below a diagonal of ones, and its signs D."""

    name = "torch_householder_map"
    kind, map = "reflectors", "householder"
    gradients = "torch's, reflector by reflector"

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


class TorchMatrixExp(ExpOfTriangle, TorchParametrization):
    """exp(A) X with A = tril(V) − tril(V)ᵀ."""

    name = "torch_matrix_exp"
    kind, map = "exponential", "matrix_exp"
    gradients = "torch's, by the exponential of a doubled matrix"

    def flops(self, problem: Problem) -> Flops:
        return exp_flops(problem, entries=1)

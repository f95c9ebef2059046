"""GeoTorch's orthogonal constraint."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from ._skew import ExpOfTriangle, exp_flops
from ._skip import half_precision, missing_peer, not_square
from .base import Flops, Problem


class GeoTorch(ExpOfTriangle):
    """B exp(A) X with A = tril(V) − tril(V)ᵀ, V (d, d), and a base point B, here I.

    GeoTorch draws B at random; assigning I to the weight, as its documentation
    does, moves B there, and the product with it is computed all the same.
    """

    kind = "exponential"
    builds = "Q"
    gradients = "torch's, by the exponential of a doubled matrix"
    source = "Lezcano-Casado, Trivializations for Gradient-Based Optimization, NeurIPS 2019"

    def skip(self, problem: Problem) -> str | None:
        return (
            missing_peer("geotorch", "geotorch")
            or not_square(problem, "geotorch.orthogonal")
            or half_precision(problem, "torch.matrix_exp", "returns NaN")
        )

    def prepare(self, V: Tensor, X: Tensor) -> None:
        import geotorch

        layer: Any = nn.Module()
        layer.weight = nn.Parameter(V.detach().clone())
        with torch.random.fork_rng([V.device] if V.is_cuda else []):
            geotorch.orthogonal(layer, "weight")
        layer.weight = torch.eye(len(V), dtype=V.dtype, device=V.device)
        self.parametrization = cast(nn.Module, layer.parametrizations.weight[0])

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        Q: Tensor = self.parametrization(V)
        return Q @ X

    def flops(self, problem: Problem) -> Flops:
        """The exponential's, and 2d³ each way for the product with B."""
        exp, base = exp_flops(problem, entries=1), 2 * problem.d**3
        return Flops(exp.forward + base, exp.backward + base)

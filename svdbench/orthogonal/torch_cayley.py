"""torch's orthogonal parametrisation with the Cayley map."""

import torch
from torch import Tensor

from ._skew import cayley_flops, scaled, skew
from ._torch_parametrization import TorchParametrization
from .base import Flops, Problem


class TorchCayley(TorchParametrization):
    """(I − A/2)⁻¹(I + A/2) X with A = tril(V) − tril(V)ᵀ."""

    kind = "cayley"
    gradients = "torch's, by the LU factors of the forward pass"
    map = "cayley"

    def parameter(self, V: Tensor) -> Tensor:
        return scaled(V)

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        half = skew(V.tril()) / 2
        eye = torch.eye(V.shape[0], dtype=V.dtype, device=V.device)
        return torch.linalg.inv(eye - half) @ (eye + half) @ X

    def flops(self, problem: Problem) -> Flops:
        return cayley_flops(problem)

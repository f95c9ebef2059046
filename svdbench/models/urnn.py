"""The unitary network of restricted capacity."""

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from ._complex import ComplexRecurrent
from ._recurrent import Shared


class URNN(ComplexRecurrent):
    """W = D₃ R₂ F⁻¹ D₂ Π R₁ F D₁: 7n parameters for n complex hidden units.

    D is diagonal with entries e^{iθ}, R a complex reflection, F the unitary Fourier
    transform and Π a fixed random permutation. W is built by applying all of them to the
    identity, O(n² log n). (The source's code has a version without F and F⁻¹.)
    """

    source = "Arjovsky, Shah and Bengio, Unitary Evolution Recurrent Neural Networks, ICML 2016"

    order: Tensor

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int, **shared: Unpack[Shared]
    ) -> None:
        super().__init__(input_size, hidden_size, output_size, **shared)
        self.theta = nn.Parameter(torch.empty(3, hidden_size).uniform_(-math.pi, math.pi))
        self.reflectors = nn.Parameter(torch.empty(2, hidden_size, 2).uniform_(-1, 1))
        self.register_buffer("order", torch.randperm(hidden_size))

    def unitary_weight(self) -> Tensor:
        phases = torch.polar(torch.ones_like(self.theta), self.theta)
        r1, r2 = torch.view_as_complex(self.reflectors)
        W = torch.fft.fft(torch.diag(phases[0]), dim=0, norm="ortho")
        W = phases[1].unsqueeze(-1) * reflect(r1, W)[self.order]
        W = torch.fft.ifft(W, dim=0, norm="ortho")
        return phases[2].unsqueeze(-1) * reflect(r2, W)

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        return [self.theta, self.reflectors]

    def weight_parameters(self) -> int:
        return 7 * self.hidden_size


def reflect(v: Tensor, X: Tensor) -> Tensor:
    """(I − 2 v vᴴ/‖v‖²) X for complex v (n,) and X (n, m)."""
    return X - torch.outer(v * (2 / v.abs().square().sum()), v.conj() @ X)

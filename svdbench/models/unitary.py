"""Networks whose recurrent weight is unitary, of restricted and of full capacity."""

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from svdbench.nn.deferred import assign

from .manifold import CayleyStep
from .recurrent import ComplexRecurrent, Shared


class URNN(ComplexRecurrent):
    """W = D₃ R₂ F⁻¹ D₂ Π R₁ F D₁: 7n parameters for n complex hidden units.

    D is diagonal with entries e^{iθ}, R a complex reflection, F the unitary Fourier
    transform and Π a fixed random permutation. W is built by applying all of them to the
    identity, O(n² log n). (The source's code has a version without F and F⁻¹.)
    """

    name = "urnn"
    source = "Arjovsky, Shah and Bengio, Unitary Evolution Recurrent Neural Networks, ICML 2016"

    order: Tensor

    def __init__(self, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        n = self.hidden_size
        self.theta = nn.Parameter(torch.empty(3, n))
        self.reflectors = nn.Parameter(torch.empty(2, n, 2))
        self.register_buffer("order", torch.empty(n, dtype=torch.int64))
        self.reset_weight()

    def reset_weight(self) -> None:
        nn.init.uniform_(self.theta, -math.pi, math.pi)
        nn.init.uniform_(self.reflectors, -1, 1)
        self.order.copy_(torch.randperm(self.hidden_size, device="cpu"))

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


class FcURNN(ComplexRecurrent):
    """W is any unitary matrix (n, n), kept unitary by multiplicative steps: n² free parameters.

    W is a parameter, with real and imaginary parts as (n, n, 2), 2n² numbers under n² equations.
    The optimizer must not update it: ``step_own`` moves it by the Cayley transform of its gradient.

    Args:
        rms: scale its gradient as RMSprop does, as the source did on MNIST, with a learning rate of
            1e-6; elsewhere it used 1e-4 to 1e-3.
    """

    name = "fc_urnn"
    source = "Wisdom et al., Full-Capacity Unitary Recurrent Neural Networks, NeurIPS 2016"
    own_step = True

    def __init__(self, *, rms: bool = True, **shared: Unpack[Shared]) -> None:
        super().__init__(**shared)
        self.W = nn.Parameter(torch.empty(self.hidden_size, self.hidden_size, 2))
        self.step = CayleyStep(self.W.shape, rms)
        self.reset_weight()

    def reset_weight(self) -> None:
        assign(self.W, torch.view_as_real(random_unitary(self.hidden_size)))

    def unitary_weight(self) -> Tensor:
        return torch.view_as_complex(self.W)

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        return [self.W]

    def step_own(self, lr: float) -> None:
        self.step(self.W, lr)

    def constraints(self) -> int:
        return self.hidden_size**2

    def weight_parameters(self) -> int:
        return self.hidden_size**2


def random_unitary(n: int) -> Tensor:
    """A unitary matrix (n, n) in complex128, uniform (Haar): the polar factor of a Gaussian one."""
    U, _, Vh = torch.linalg.svd(torch.randn(n, n, dtype=torch.complex128))
    return U @ Vh

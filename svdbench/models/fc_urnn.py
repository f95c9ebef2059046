"""The unitary network of full capacity."""

from typing import Unpack

import torch
from torch import Tensor, nn

from ._complex import ComplexRecurrent
from ._manifold import CayleyStep
from ._recurrent import Shared


class FcURNN(ComplexRecurrent):
    """W any unitary matrix (n, n), kept so by multiplicative steps: n² free parameters.

    W is a parameter itself, its real and imaginary parts as (n, n, 2), 2n² numbers under n²
    equations. The optimizer must leave it alone: ``step_own`` moves it by the Cayley
    transform of its gradient.

    Args:
        rms: scale its gradient as RMSprop does, as the source did on MNIST; there its
            learning rate was 1e-6, and 1e-4 to 1e-3 for all else.
    """

    source = "Wisdom et al., Full-Capacity Unitary Recurrent Neural Networks, NeurIPS 2016"
    own_step = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        rms: bool = True,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(input_size, hidden_size, output_size, **shared)
        self.W = nn.Parameter(torch.view_as_real(random_unitary(hidden_size)).to(self.bias))
        self.step = CayleyStep(self.W.shape, rms)

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

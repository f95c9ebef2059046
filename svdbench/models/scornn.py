"""The orthogonal network by the scaled Cayley transform."""

from typing import Unpack

import torch
from torch import Tensor, nn

from ._recurrent import Recurrent, Shared, distance_to_isometry
from ._skew import cayley_of_rotation, rotation, skew, triangle_of


class ScoRNN(Recurrent):
    """W = (I + A)⁻¹(I − A) D, A skew-symmetric: n(n − 1)/2 parameters.

    D is diagonal and fixed, ρ entries −1 at its end and the rest 1; without it no W with an
    eigenvalue −1 would be in reach. W is built as 2(I + A)⁻¹D − D.

    Args:
        rho: ρ, 0 to n; None is n/2, the source's for copying (about n/10 for MNIST).
        init: WD at first, a rotation: "cayley" (the source's), "henaff", "identity", "random".

    Raises:
        ValueError: ρ out of range, or what :class:`Recurrent` refuses.
    """

    kind = "orthogonal"
    source = "Helfrich, Willmott and Ye, Orthogonal RNNs with Scaled Cayley Transform, ICML 2018"

    signs: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        activation: str = "modrelu",
        rho: int | None = None,
        init: str = "cayley",
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(input_size, hidden_size, output_size, activation=activation, **shared)
        n, rho = hidden_size, hidden_size // 2 if rho is None else rho
        if not (isinstance(rho, int) and 0 <= rho <= n):
            raise ValueError(f"rho is {rho!r}: give a whole number from 0 to hidden_size = {n}")
        signs = torch.ones(n)
        signs[n - rho :] = -1
        self.register_buffer("signs", signs)
        self.A = nn.Parameter(triangle_of(cayley_of_rotation(rotation(n, init))).to(self.bias))

    def recurrent_weight(self) -> Tensor:
        D = torch.diag(self.signs)
        eye = torch.eye(self.hidden_size, dtype=D.dtype, device=D.device)
        W: Tensor = torch.linalg.solve(eye + skew(self.A, self.hidden_size), 2 * D) - D
        return W

    def promise(self) -> float:
        return distance_to_isometry(self.recurrent_weight())

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        return [self.A]

    def weight_parameters(self) -> int:
        return self.hidden_size * (self.hidden_size - 1) // 2

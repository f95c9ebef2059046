"""The orthogonal network by the matrix exponential, and by dynamic trivialisation."""

from typing import Unpack

import torch
from torch import Tensor, nn

from ._manifold import towards_isometry
from ._recurrent import Recurrent, Shared, distance_to_isometry
from ._skew import exp_skew, log_of_rotation, rotation, skew, triangle_of
from .base import whole


class ExpRNN(Recurrent):
    """W = exp(A), or B exp(A), A skew-symmetric: n(n − 1)/2 parameters.

    Args:
        init: W at first, a rotation: "henaff", "cayley", "identity" or "random".
        dynamic: dtriv, the dynamic trivialisation: W = B exp(A), and every ``rebase_every``
            steps B becomes W and A zero, where the exponential keeps lengths and directions.
        rebase_every: K of the source; of no effect unless ``dynamic``.

    Raises:
        ValueError: ``rebase_every`` below 1, or what :class:`Recurrent` refuses.
    """

    kind = "orthogonal"
    source = (
        "Lezcano-Casado and Martínez-Rubio, Cheap Orthogonal Constraints in Neural Networks, "
        "ICML 2019; dynamic: Lezcano-Casado, Trivializations for Gradient-Based Optimization on "
        "Manifolds, NeurIPS 2019"
    )

    base: Tensor | None
    steps: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        activation: str = "modrelu",
        init: str = "henaff",
        dynamic: bool = False,
        rebase_every: int = 100,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(input_size, hidden_size, output_size, activation=activation, **shared)
        whole("rebase_every", rebase_every)
        self.dynamic, self.rebase_every = dynamic, rebase_every
        W = rotation(hidden_size, init)
        A = torch.zeros_like(W) if dynamic else log_of_rotation(W)
        self.A = nn.Parameter(triangle_of(A).to(self.bias))
        self.register_buffer("base", W.to(self.bias) if dynamic else None)
        self.register_buffer("steps", torch.tensor(0))

    def recurrent_weight(self) -> Tensor:
        E = exp_skew(skew(self.A, self.hidden_size))
        return E if self.base is None else self.base @ E

    @torch.no_grad()
    def after_step(self) -> None:
        if self.base is None:
            return
        self.steps += 1
        if self.steps % self.rebase_every == 0:
            self.base.copy_(towards_isometry(self.recurrent_weight()))
            self.A.zero_()

    def promise(self) -> float:
        return distance_to_isometry(self.recurrent_weight())

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        return [self.A]

    def weight_parameters(self) -> int:
        return self.hidden_size * (self.hidden_size - 1) // 2

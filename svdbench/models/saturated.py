"""asRNN: a tanh in learnt coordinates, so that its saturation is learnt."""

from typing import Unpack

import torch
from torch import Tensor, nn

from svdbench.nn.deferred import assign
from svdbench.nn.recurrence import recurrence

from .manifold import exp_skew, log_of_rotation, rotation, skew, triangle_of
from .orthogonal import Orthogonal
from .recurrent import Shared


class AsRNN(Orthogonal):
    """h_t = W_f⁻¹ tanh(W_f(W h_{t−1} + M x_t + b)), W and U orthogonal, W_f = U diag(|s| + ε).

    Small s keep tanh in its linear part, where the recurrence is orthogonal. W = exp(A) and
    U = exp(C), A and C skew-symmetric: n² parameters. W_f h_t follows a plain recurrence with the
    weight W_f W W_f⁻¹ and is computed by it.

    Args:
        init: initial W, a rotation: "henaff", "cayley", "identity" or "random".
        scale: the initial s are uniform from 0 to this number.
        epsilon: ε, above 0.

    Raises:
        ValueError: a scale or ε out of range, or a value that :class:`Recurrent` refuses.
    """

    name = "asrnn"
    source = "Nguyen-Duy et al., Adaptive-saturated RNN, 2023, arXiv 2304.11790"
    activations = ("tanh",)

    def __init__(
        self,
        *,
        init: str = "henaff",
        scale: float = 1.0,
        epsilon: float = 0.01,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(activation="tanh", **shared)
        if not scale >= 0:
            raise ValueError(f"scale is {scale}: give a number of at least 0")
        if not epsilon > 0:
            raise ValueError(f"epsilon is {epsilon}: give a number above 0")
        self.init, self.scale, self.epsilon = init, scale, epsilon
        n = self.hidden_size
        self.A, self.C = (nn.Parameter(torch.empty(n * (n - 1) // 2)) for _ in range(2))
        self.s = nn.Parameter(torch.empty(n))
        self.reset_weight()

    def reset_weight(self) -> None:
        assign(self.A, triangle_of(log_of_rotation(rotation(self.hidden_size, self.init))))
        assign(self.C, triangle_of(log_of_rotation(rotation(self.hidden_size, "random"))))
        nn.init.uniform_(self.s, 0, self.scale)

    def recurrent_weight(self) -> Tensor:
        """W, without W_f."""
        return exp_skew(skew(self.A, self.hidden_size))

    def _coordinates(self) -> tuple[Tensor, Tensor]:
        """W_f and its inverse, (n, n)."""
        U = exp_skew(skew(self.C, self.hidden_size))
        scales = self.s.abs() + self.epsilon
        return U * scales, U.mT / scales.unsqueeze(-1)

    def states(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        to, back = self._coordinates()
        first = self._first(x, h0)
        first = None if first is None else first @ to.mT
        weight = to @ self.recurrent_weight() @ back
        return recurrence(self.drive(x) @ to.mT, weight, first) @ back.mT

    def unrolled(self, x: Tensor, h0: Tensor | None = None) -> list[Tensor]:
        state, states = self._first(x, h0), []
        for u in x.split(1):
            state = self.states(u, state).squeeze(0)
            states.append(state)
        return states

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        return [self.A, self.C]

    def weight_parameters(self) -> int:
        return self.hidden_size**2

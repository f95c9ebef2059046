"""The network with its singular values in a margin about 1."""

from typing import Unpack

from torch import Tensor, nn

from svdbench.nn.singular_values import IntervalSigma
from svdbench.nn.starts import start

from ._manifold import CayleyStep
from ._recurrent import Recurrent, Shared, distance_to_interval


class FactorizedRNN(Recurrent):
    """W = U diag(σ) Vᵀ with σ = 1 + 2·margin·(sigmoid(σ̂) − ½): n² free parameters.

    U and V (n, n) are parameters themselves, 2n² numbers under n(n + 1) equations, and
    σ̂ (n,) is one of the optimizer's. The optimizer must leave U and V alone: ``step_own``
    moves them by the Cayley transforms of their gradients.

    Args:
        margin: how far a singular value may be from 1, 0 to 1.
        init: W at first: "henaff", "cayley", "identity" or "random".
        rms: scale the gradients of U and V as RMSprop does. The source doesn't, with
            a learning rate of 1e-6.

    Raises:
        ValueError: a margin that is not in [0, 1], or what :class:`Recurrent` refuses.
    """

    kind = "spectral"
    source = (
        "Vorontsov et al., On Orthogonality and Learning RNNs with Long Term Dependencies, 2017"
    )
    own_step = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        activation: str = "tanh",
        margin: float = 0.01,
        init: str = "random",
        rms: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        shared.setdefault("learn_h0", True)
        super().__init__(input_size, hidden_size, output_size, activation=activation, **shared)
        if not 0 <= margin <= 1:
            raise ValueError(f"margin is {margin}: give a number from 0 to 1")
        self.margin = margin
        V = start("random", hidden_size)
        self.U = nn.Parameter((start(init, hidden_size) @ V).to(self.bias))
        self.V = nn.Parameter(V.to(self.bias))
        self.singular_values = IntervalSigma(hidden_size, 1.0, margin, 1.0)
        self.step_U = CayleyStep(self.U.shape, rms)
        self.step_V = CayleyStep(self.V.shape, rms)

    def sigma(self) -> Tensor:
        sigma: Tensor = self.singular_values()
        return sigma

    def recurrent_weight(self) -> Tensor:
        return self.U * self.sigma() @ self.V.mT

    def promise(self) -> float:
        return distance_to_interval(self.recurrent_weight(), 1 - self.margin, 1 + self.margin)

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        return [self.U, self.V]

    def step_own(self, lr: float) -> None:
        self.step_U(self.U, lr)
        self.step_V(self.V, lr)

    def constraints(self) -> int:
        return self.hidden_size * (self.hidden_size + 1)

    def weight_parameters(self) -> int:
        return self.hidden_size**2

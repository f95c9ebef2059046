"""Networks whose recurrent weight has singular values in an interval."""

from typing import Unpack

import torch
from torch import Tensor, nn

from svdbench.nn.deferred import assign
from svdbench.nn.singular_values import IntervalSigma
from svdbench.nn.spectral_weight import SpectralWeight, start

from .manifold import CayleyStep
from .recurrent import Recurrent, Reflected, Shared, distance_to_interval


class SpectralModel(Reflected):
    """W = U diag(σ) Vᵀ, U of m₁ and V of m₂ reflectors, σ within r of σ*.

    With n_i inputs, n_y outputs, a bias b and none in the readout, there are
    (n_y + n_i + m₁ + m₂ + 2)n − (m₁² + m₂² − m₁ − m₂)/2 parameters.

    Args:
        m1, m2: number of reflectors, 1 to n; None is n/2 rounded up, which with σ = 1 can represent
            every orthogonal matrix up to the sign of its determinant. n and n can represent every
            matrix with singular values in the interval.
        sigma: σ*, the middle of the interval.
        radius: r ≥ 0, half its width.
        init: initial W/σ*, or its approximation by the reflectors: "henaff", "cayley", "identity"
            or "random".

    Raises:
        ValueError: m₁, m₂ or r out of range, or a value that :class:`Recurrent` refuses.
    """

    weight: SpectralWeight

    name = "spectral_rnn"
    kind = "spectral"
    source = (
        "Zhang, Lei and Dhillon, Stabilizing Gradients for Deep Neural Networks via Efficient "
        "SVD Parameterization, ICML 2018"
    )

    def __init__(
        self,
        *,
        activation: str = "modrelu",
        m1: int | None = None,
        m2: int | None = None,
        sigma: float = 1.0,
        radius: float = 0.01,
        init: str = "henaff",
        **shared: Unpack[Shared],
    ) -> None:
        shared.setdefault("readout_bias", False)
        super().__init__(activation=activation, **shared)
        n, half = self.hidden_size, (self.hidden_size + 1) // 2
        m1, m2 = half if m1 is None else m1, half if m2 is None else m2
        self.weight = SpectralWeight(n, m1, m2, sigma=sigma, radius=radius, init=init)
        low, high = sigma - radius, sigma + radius
        self.interval = max(0.0, low, -high), max(high, -low)  # of |σ|

    def sigma(self) -> Tensor:
        return self.weight.sigma()

    def promise(self) -> float:
        return distance_to_interval(self.recurrent_weight(), *self.interval)

    def weight_parameters(self) -> int:
        n, m1, m2 = self.hidden_size, self.weight.m1, self.weight.m2
        return (m1 + m2 + 1) * n - (m1**2 + m2**2 - m1 - m2) // 2


class FactorizedRNN(Recurrent):
    """W = U diag(σ) Vᵀ with σ = 1 + 2·margin·(sigmoid(σ̂) − ½): n² free parameters.

    U and V (n, n) are parameters, 2n² numbers under n(n + 1) equations. The optimizer updates σ̂
    (n,), but must not update U and V: ``step_own`` moves them by the Cayley transforms of their
    gradients.

    Args:
        margin: how far a singular value may be from 1, 0 to 1.
        init: initial W: "henaff", "cayley", "identity" or "random".
        rms: scale the gradients of U and V as RMSprop does. The source doesn't, with
            a learning rate of 1e-6.

    Raises:
        ValueError: a margin that is not in [0, 1], or a value that :class:`Recurrent` refuses.
    """

    name = "factorized_rnn"
    kind = "spectral"
    source = (
        "Vorontsov et al., On Orthogonality and Learning RNNs with Long Term Dependencies, 2017"
    )
    own_step = True

    def __init__(
        self,
        *,
        activation: str = "tanh",
        margin: float = 0.01,
        init: str = "random",
        rms: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        shared.setdefault("learn_h0", True)
        super().__init__(activation=activation, **shared)
        if not 0 <= margin <= 1:
            raise ValueError(f"margin is {margin}: give a number from 0 to 1")
        self.margin, self.init = margin, init
        n = self.hidden_size
        self.U, self.V = (nn.Parameter(torch.empty(n, n)) for _ in range(2))
        self.singular_values = IntervalSigma(n, 1.0, margin, 1.0)
        self.step_U, self.step_V = (CayleyStep(self.U.shape, rms) for _ in range(2))
        self.reset_weight()

    def reset_weight(self) -> None:
        V = start("random", self.hidden_size)
        assign(self.U, start(self.init, self.hidden_size) @ V)
        assign(self.V, V)

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

"""The network with its recurrent weight in SVD form, by Householder reflectors."""

from typing import Unpack

from torch import Tensor, nn

from svdbench.nn.spectral_weight import SpectralWeight

from ._recurrent import Recurrent, Shared, distance_to_interval


class SpectralRNN(Recurrent):
    """W = U diag(σ) Vᵀ, U of m₁ and V of m₂ reflectors, σ within r of σ*.

    With n_i inputs, n_y outputs, a bias b and none in the readout, there are
    (n_y + n_i + m₁ + m₂ + 2)n − (m₁² + m₂² − m₁ − m₂)/2 parameters.

    Args:
        m1, m2: reflectors, 1 to n; None is n/2 rounded up: with σ = 1, every orthogonal
            matrix but for the sign of its determinant. n and n reach every matrix with its
            singular values in the interval.
        sigma: σ*, the middle of the interval.
        radius: r, half its width, from 0 up.
        init: W/σ* at first, or as near as the reflectors get: "henaff", "cayley",
            "identity" or "random".

    Raises:
        ValueError: m₁, m₂ or r out of range, or what :class:`Recurrent` refuses.
    """

    kind = "spectral"
    source = (
        "Zhang, Lei and Dhillon, Stabilizing Gradients for Deep Neural Networks via Efficient "
        "SVD Parameterization, ICML 2018"
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
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
        super().__init__(input_size, hidden_size, output_size, activation=activation, **shared)
        half = (hidden_size + 1) // 2
        m1, m2 = half if m1 is None else m1, half if m2 is None else m2
        self.weight = SpectralWeight(hidden_size, m1, m2, sigma=sigma, radius=radius, init=init)
        low, high = sigma - radius, sigma + radius
        self.interval = max(0.0, low, -high), max(high, -low)  # of |σ|

    def recurrent_weight(self) -> Tensor:
        W: Tensor = self.weight()
        return W

    def sigma(self) -> Tensor:
        return self.weight.sigma()

    def promise(self) -> float:
        return distance_to_interval(self.recurrent_weight(), *self.interval)

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        return list(self.weight.parameters())

    def weight_parameters(self) -> int:
        n, m1, m2 = self.hidden_size, self.weight.m1, self.weight.m2
        return (m1 + m2 + 1) * n - (m1**2 + m2**2 - m1 - m2) // 2

"""Blocks that mix along time by a recurrence whose weight is made of reflectors."""

from typing import Unpack

from torch import Tensor, nn

from svdbench.nn.activations import ACTIVATIONS
from svdbench.nn.recurrent_stack import RecurrentLayer
from svdbench.nn.spectral_weight import OrthogonalWeight, SpectralWeight

from .blocks import BlockModel, BlockOptions, Mixer
from .recurrent import distance_to_interval, distance_to_isometry

CHOICES = ("modrelu", "tanh", "relu", "identity")


class ReflectedMixer(Mixer):
    """h_t = φ(W h_{t−1} + M u_t + b), also the output; b is inside φ for modReLU.

    Args:
        weight: W (d, d), a product of reflectors.
        activation: φ, "modrelu", "tanh", "relu" or "identity".
        interval: interval of the singular values of W; None if W is orthogonal.

    Raises:
        ValueError: an unknown activation.
    """

    def __init__(
        self,
        weight: SpectralWeight | OrthogonalWeight,
        activation: str,
        interval: tuple[float, float] | None,
    ) -> None:
        super().__init__()
        if activation not in CHOICES:
            raise ValueError(f"activation is {activation!r}: choose from {', '.join(CHOICES)}")
        self.state_size, self.interval = weight.n, interval
        bias = not ACTIVATIONS[activation].needs_bias
        self.layer = RecurrentLayer(weight.n, weight, activation, bias, reverse=False)

    def reset_parameters(self) -> None:
        self.layer.reset_parameters()

    def forward(self, u: Tensor, h0: Tensor | None = None) -> Tensor:
        states: Tensor = self.layer(u, h0)[0]
        return states

    def states(self, u: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h = self(u, h0)
        return h, h

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        return list(self.layer.weight.parameters())

    def promise(self) -> float:
        W = self.layer.weight()
        return (
            distance_to_isometry(W)
            if self.interval is None
            else distance_to_interval(W, *self.interval)
        )

    def expected_parameters(self) -> int:
        d, weight = self.state_size, self.layer.weight
        if isinstance(weight, OrthogonalWeight):
            reflectors = weight.m * d - weight.m * (weight.m - 1) // 2
        else:
            m1, m2 = weight.m1, weight.m2
            reflectors = (m1 + m2 + 1) * d - (m1 * (m1 - 1) + m2 * (m2 - 1)) // 2
        return d * (d + 1) + reflectors


class SpectralBlocks(BlockModel):
    """Blocks with the recurrence of the Spectral-RNN: W = U diag(σ) Vᵀ, σ within r of σ*.

    Args:
        layers: L, blocks.
        activation: φ, "modrelu", "tanh", "relu" or "identity".
        m1, m2: reflectors of U and V, 1 to d; None is d/2 rounded up.
        sigma: σ*, the middle of the interval.
        radius: r ≥ 0, half its width.
        init: initial W/σ*, or its approximation by the reflectors: "henaff", "cayley", "identity"
            or "random".

    Raises:
        ValueError: an invalid size, activation or other argument.
    """

    name = "spectral_blocks"
    kind = "spectral"
    source = (
        "Zhang, Lei and Dhillon, Stabilizing Gradients for Deep Neural Networks via Efficient "
        "SVD Parameterization, ICML 2018, in blocks as those of LRU"
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
        **shared: Unpack[BlockOptions],
    ) -> None:
        low, high = sigma - radius, sigma + radius
        interval = max(0.0, low, -high), max(high, -low)  # of |σ|

        def mixer(d: int) -> Mixer:
            m = ((d + 1) // 2 if each is None else each for each in (m1, m2))
            weight = SpectralWeight(d, *m, sigma=sigma, radius=radius, init=init)
            return ReflectedMixer(weight, activation, interval)

        super().__init__(mixer, **shared)


class OrthogonalBlocks(BlockModel):
    """Blocks with the recurrence of the oRNN: W is a product of m reflectors.

    Args:
        layers: L, blocks.
        activation: φ, "modrelu", "tanh", "relu" or "identity".
        m: reflectors, 1 to d; None is d.
        init: initial W, or its approximation by m reflectors: "henaff", "cayley", "identity" or
            "random".

    Raises:
        ValueError: an invalid size or activation.
    """

    name = "orthogonal_blocks"
    kind = "orthogonal"
    source = (
        "Mhammedi et al., Efficient Orthogonal Parametrisation of Recurrent Neural Networks "
        "Using Householder Reflections, ICML 2017, in blocks as those of LRU"
    )

    def __init__(
        self,
        *,
        activation: str = "modrelu",
        m: int | None = None,
        init: str = "henaff",
        **shared: Unpack[BlockOptions],
    ) -> None:
        def mixer(d: int) -> Mixer:
            return ReflectedMixer(
                OrthogonalWeight(d, d if m is None else m, init=init), activation, None
            )

        super().__init__(mixer, **shared)

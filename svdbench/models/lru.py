"""LRU: a complex diagonal recurrence inside the unit circle."""

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from svdbench.arguments import check_whole
from svdbench.nn.deferred import assign
from svdbench.nn.diagonal import diagonal_recurrence, diagonal_states

from .blocks import BlockModel, BlockOptions, Mixer


class DiagonalMixer(Mixer):
    """h_t = λ ∘ h_{t−1} + e^γ ∘ (B u_t), y = Re(C h) + D ∘ u, λ = exp(−e^ν + i e^θ) in Cᴺ.

    Initially, |λ|² is uniform in [r_min², r_max²] and the angle in [0, ``max_phase``]; γ preserves
    the size of white noise. A state holds the real and imaginary parts of each unit side by side,
    2N numbers, and B and C act on such pairs: 3N + 4Nd + d parameters.

    Args:
        d: width.
        units: N.
        r_min, r_max: range of the initial moduli, 0 ≤ r_min < r_max ≤ 1.
        max_phase: the largest initial angle, in radians, above 0.

    Raises:
        ValueError: one of them is out of range.
    """

    def __init__(self, d: int, units: int, r_min: float, r_max: float, max_phase: float) -> None:
        super().__init__()
        check_whole(1, state_units=units)
        if not 0 <= r_min < r_max <= 1:
            raise ValueError(f"r_min is {r_min} and r_max {r_max}: give 0 ≤ r_min < r_max ≤ 1")
        if not 0 < max_phase <= 2 * math.pi:
            raise ValueError(f"max_phase is {max_phase}: give an angle above 0, up to 2π = 6.283")
        self.state_size = 2 * units
        self.r_min, self.r_max, self.max_phase = r_min, r_max, max_phase
        self.nu, self.theta, self.gamma = (nn.Parameter(torch.empty(units)) for _ in range(3))
        self.B = nn.Parameter(torch.empty(units, 2, d))
        self.C = nn.Parameter(torch.empty(d, units, 2))
        self.D = nn.Parameter(torch.empty(d))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        units, _, d = self.B.shape
        # In double precision, where 1 − |λ|² is not zero for |λ| close to 1.
        u = torch.rand(units, dtype=torch.float64).clamp_(1e-9, 1 - 1e-9)
        decay = -0.5 * torch.log(u * (self.r_max**2 - self.r_min**2) + self.r_min**2)
        assign(self.nu, decay.log())
        assign(self.gamma, 0.5 * torch.log(-torch.expm1(-2 * decay)))
        angles = torch.rand(units, dtype=torch.float64).clamp_min_(1e-9) * self.max_phase
        assign(self.theta, angles.log())
        nn.init.normal_(self.B, std=math.sqrt(1 / (2 * d)))
        nn.init.normal_(self.C, std=math.sqrt(1 / units))
        nn.init.normal_(self.D)

    def eigenvalues(self) -> Tensor:
        """λ (N,), complex."""
        return torch.polar(torch.exp(-torch.exp(self.nu)), torch.exp(self.theta))

    def forward(self, u: Tensor, h0: Tensor | None = None) -> Tensor:
        return diagonal_recurrence(u, *self._matrices(), h0)

    def states(self, u: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return diagonal_states(u, *self._matrices(), h0)

    def _matrices(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """λ, and e^γ B, C and D."""
        B = torch.exp(self.gamma).view(-1, 1, 1) * self.B
        return self.eigenvalues(), B.flatten(0, 1), self.C.flatten(1), self.D

    def expected_parameters(self) -> int:
        units, _, d = self.B.shape
        return 3 * units + 4 * units * d + d


class LRU(BlockModel):
    """Blocks of linear recurrent units: h_t = λ ∘ h_{t−1} + e^γ ∘ (B u_t), λ complex.

    Args:
        layers: L, blocks.
        state_units: N, complex units in a block; None is ``hidden_size``.
        r_min, r_max: range of the initial moduli of λ.
        max_phase: the largest initial angle of λ, in radians.

    Raises:
        ValueError: a size that is not a positive whole number, or a number out of range.
    """

    name = "lru"
    source = (
        "Orvieto et al., Resurrecting Recurrent Neural Networks for Long Sequences, ICML 2023, "
        "arXiv 2303.06349"
    )

    def __init__(
        self,
        *,
        state_units: int | None = None,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 6.28,
        **shared: Unpack[BlockOptions],
    ) -> None:
        def mixer(d: int) -> Mixer:
            units = d if state_units is None else state_units
            return DiagonalMixer(d, units, r_min, r_max, max_phase)

        super().__init__(mixer, **shared)

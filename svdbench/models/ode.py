"""LEM and coRNN: discretised differential equations, with two numbers per unit."""

import math
from abc import abstractmethod
from typing import Unpack

import torch
from torch import Tensor, nn

from .base import ModelSizes, SequenceModel


class Discretised(SequenceModel):
    """A state (z, y) of 2n numbers; y is read out. Weights are initialised uniformly in ±1/√n.

    Args:
        dt: Δt, the largest step, above 0.
        maps: affine maps of the input, n numbers each.

    Raises:
        ValueError: a size that is not a positive whole number, or a Δt that is not above 0.
    """

    kind = "free"
    numbers_per_unit = 2

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        dt: float,
        maps: int,
        readout_bias: bool = True,
    ) -> None:
        super().__init__(
            *(input_size, hidden_size, output_size), readout_bias=readout_bias, read=hidden_size
        )
        if not dt > 0:
            raise ValueError(f"dt is {dt}: give a number above 0")
        self.dt = dt
        self.inputs = nn.Linear(input_size, maps * hidden_size)
        self._start(self.inputs)

    def reset_parameters(self) -> None:
        super().reset_parameters()
        for child in self.children():
            if child is not self.readout:
                self._start(child)

    def _start(self, linear: nn.Module) -> None:
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in linear.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    @abstractmethod
    def step(self, u: Tensor, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """z and y (B, n) after a step with the maps u (B, maps · n) of its input."""

    def states(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        if not len(x):
            return x.new_empty(0, x.shape[1], self.state_size)
        return torch.stack(self.unrolled(x, h0))

    def unrolled(self, x: Tensor, h0: Tensor | None = None) -> list[Tensor]:
        state, states = x.new_zeros(x.shape[1], self.state_size) if h0 is None else h0, []
        for u in self.inputs(x).unbind():
            state = torch.cat(self.step(u, *state.chunk(2, -1)), -1)
            states.append(state)
        return states

    def expected_parameters(self) -> int:
        inputs = self.inputs.out_features * (self.input_size + 1)
        return inputs + self.recurrent_parameters() + self.readout_parameters()

    @abstractmethod
    def recurrent_parameters(self) -> int:
        """Number of parameters in the maps of the state."""


class LEM(Discretised):
    """Long expressive memory: two gates set the step sizes; 4n(n + n_i + 1) parameters.

    z ← z + Δt σ(p₁) ∘ (tanh(p₃) − z), then y ← y + Δt σ(p₂) ∘ (tanh(W_y z + V_y x + b_y) − y),
    where each p is an affine map of y and x. The steps run one by one under autograd, so a pass
    takes a few times as long as that of an LSTM of the same width.

    Args:
        dt: Δt, the largest step, above 0.

    Raises:
        ValueError: a size that is not a positive whole number, or a Δt that is not above 0.
    """

    name = "lem"
    source = (
        "Rusch, Mishra, Erichson and Mahoney, Long Expressive Memory for Sequence Modeling, "
        "ICLR 2022, arXiv 2110.04744"
    )

    def __init__(self, *, dt: float = 1.0, **shared: Unpack[ModelSizes]) -> None:
        super().__init__(dt=dt, maps=4, **shared)
        n = self.hidden_size
        self.of_y = nn.Linear(n, 3 * n, bias=False)
        self.of_z = nn.Linear(n, n, bias=False)
        self._start(self.of_y)
        self._start(self.of_z)

    def step(self, u: Tensor, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        from_y, from_z = u.split([3 * self.hidden_size, self.hidden_size], -1)
        gates, content = (from_y + self.of_y(y)).split([2 * self.hidden_size, self.hidden_size], -1)
        first, second = (self.dt * torch.sigmoid(gates)).chunk(2, -1)
        z = torch.lerp(z, torch.tanh(content), first)
        return z, torch.lerp(y, torch.tanh(from_z + self.of_z(z)), second)

    def recurrent_parameters(self) -> int:
        return 4 * self.hidden_size**2


class CoRNN(Discretised):
    """Coupled oscillators, driven and damped: n(2n + n_i + 1) parameters.

    z ← z + Δt (tanh(W y + W' z + V x + b) − γ y − ε z), then y ← y + Δt z.

    Args:
        dt: Δt, above 0.
        gamma: γ, the squared frequency without coupling, at least 0.
        epsilon: ε, the damping, at least 0.

    Raises:
        ValueError: a size that is not a positive whole number, or a number that is too small.
    """

    name = "cornn"
    source = (
        "Rusch and Mishra, Coupled Oscillatory Recurrent Neural Network, ICLR 2021, "
        "arXiv 2010.00951"
    )

    def __init__(
        self,
        *,
        dt: float = 0.042,
        gamma: float = 2.7,
        epsilon: float = 4.7,
        **shared: Unpack[ModelSizes],
    ) -> None:
        super().__init__(dt=dt, maps=1, **shared)
        for name, value in {"gamma": gamma, "epsilon": epsilon}.items():
            if not value >= 0:
                raise ValueError(f"{name} is {value}: give a number of at least 0")
        self.gamma, self.epsilon = gamma, epsilon
        self.of_state = nn.Linear(2 * self.hidden_size, self.hidden_size, bias=False)
        self._start(self.of_state)

    def step(self, u: Tensor, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        force = torch.tanh(u + self.of_state(torch.cat([z, y], -1)))
        z = z + self.dt * (force - self.gamma * y - self.epsilon * z)
        return z, y + self.dt * z

    def recurrent_parameters(self) -> int:
        return 2 * self.hidden_size**2

"""Networks h_t = φ(W h_{t−1} + M x_t + b): base classes, and networks with an unconstrained W."""

import math
from abc import abstractmethod
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from svdbench.nn.activations import ACTIVATIONS
from svdbench.nn.deferred import assign
from svdbench.nn.recurrence import recurrence
from svdbench.nn.spectral_weight import STARTS, OrthogonalWeight, SpectralWeight, start

from .base import ModelSizes, SequenceModel


class Shared(ModelSizes, total=False):
    """Sizes and options of all models of this kind; see :class:`Recurrent`."""

    input_std: float | None
    learn_h0: bool


class Recurrent(SequenceModel):
    """h_t = φ(W h_{t−1} + M x_t + b), W built once for all steps.

    For modReLU the bias is inside φ, so there is one bias for every φ.

    Args:
        activation: φ, "tanh", "relu", "identity" or "modrelu".
        input_std: standard deviation of the initial, Gaussian M; None is He's √(2/input_size).
        learn_h0: learn the initial state, which is zero otherwise.

    Class attributes:
        activations: the possible values of ``activation``.

    Raises:
        ValueError: an invalid size, activation or standard deviation.
    """

    activations: ClassVar[tuple[str, ...]] = ("tanh", "relu", "identity", "modrelu")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        activation: str = "tanh",
        input_std: float | None = None,
        readout_bias: bool = True,
        learn_h0: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, output_size, readout_bias=readout_bias)
        if activation not in self.activations:
            known = ", ".join(self.activations)
            raise ValueError(f"activation is {activation!r}: choose from {known}")
        self.activation = activation
        self.input_std = self.default_input_std() if input_std is None else input_std
        if not 0 <= self.input_std < math.inf:
            raise ValueError(f"input_std is {input_std}: give a number of at least 0, or null")
        self.input = nn.Linear(input_size, self.state_size, bias=False)
        self.bias = nn.Parameter(torch.empty(ACTIVATIONS[activation].bias_size(self.state_size)))
        self.h0 = nn.Parameter(torch.empty(self.state_size)) if learn_h0 else None
        self._reset_input()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self._reset_input()
        self.reset_weight()

    def _reset_input(self) -> None:
        nn.init.normal_(self.input.weight, std=self.input_std)
        if ACTIVATIONS[self.activation].needs_bias:  # as in the codes of uRNN and expRNN
            nn.init.uniform_(self.bias, -0.01, 0.01)
        else:
            nn.init.zeros_(self.bias)
        if self.h0 is not None:
            nn.init.zeros_(self.h0)

    def reset_weight(self) -> None:
        """Initialise the recurrent weight's parameters that are not in a submodule again."""

    @abstractmethod
    def recurrent_weight(self) -> Tensor:
        """W (s, s), differentiable."""

    @abstractmethod
    def weight_parameters(self) -> int:
        """Free parameters of W, by its formula."""

    def default_input_std(self) -> float:
        """He's: the input keeps its scale through a relu."""
        return math.sqrt(2 / self.input_size)

    def drive(self, x: Tensor) -> Tensor:
        """All u_t = M x_t + b, (T, B, s); without b where it is inside φ."""
        bias = None if ACTIVATIONS[self.activation].needs_bias else self.bias
        return nn.functional.linear(x, self.input.weight, bias)

    def states(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        return self._recur(self.drive(x), self.recurrent_weight(), self._first(x, h0))

    def unrolled(self, x: Tensor, h0: Tensor | None = None) -> list[Tensor]:
        W, state, states = self.recurrent_weight(), self._first(x, h0), []
        for u in self.drive(x).unbind(0):
            state = self._recur(u.unsqueeze(0), W, state).squeeze(0)
            states.append(state)
        return states

    def _recur(self, drive: Tensor, W: Tensor, h0: Tensor | None) -> Tensor:
        bias = self.bias if ACTIVATIONS[self.activation].needs_bias else None
        return recurrence(drive, W, h0, activation=self.activation, bias=bias)

    def _first(self, x: Tensor, h0: Tensor | None) -> Tensor | None:
        if h0 is None and self.h0 is not None:
            return self.h0.expand(x.shape[1], -1)
        return h0

    def expected_parameters(self) -> int:
        """M, b, W, the readout and, if it is learnt, h₀."""
        first = 0 if self.h0 is None else self.state_size
        inputs = self.input_size * self.state_size + self.hidden_size
        return inputs + first + self.weight_parameters() + self.readout_parameters()


def distance_to_isometry(W: Tensor) -> float:
    """‖WᴴW − I‖_F for W (n, n), real or complex, computed in double precision."""
    W = W.detach().to(torch.complex128 if W.is_complex() else torch.float64)
    eye = torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)
    return torch.linalg.matrix_norm(W.mH @ W - eye).item()


def distance_to_interval(W: Tensor, low: float, high: float) -> float:
    """The largest distance of a singular value of W (n, n) from [low, high]."""
    if not W.isfinite().all():
        return math.inf
    sigma = torch.linalg.svdvals(W.detach().double())
    return max(0.0, sigma.max().item() - high, low - sigma.min().item())


class Reflected(Recurrent):
    """A recurrence whose weight is made of reflectors, a layer of :mod:`svdbench.nn`."""

    weight: SpectralWeight | OrthogonalWeight

    def recurrent_weight(self) -> Tensor:
        W: Tensor = self.weight()
        return W

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        return list(self.weight.parameters())


class ComplexRecurrent(Recurrent):
    """h_t = φ(W h_{t−1} + M x_t), W (n, n) unitary, φ the complex modReLU; h₀ learnt by default.

    n is ``hidden_size``; a state is (Re h, Im h), 2n numbers, and so is the readout's input.
    ``recurrent_weight`` is [[Re W, −Im W], [Im W, Re W]], (2n, 2n).
    """

    kind = "unitary"
    numbers_per_unit = 2
    activations = ("complex_modrelu",)

    def __init__(self, **shared: Unpack[Shared]) -> None:
        shared.setdefault("learn_h0", True)
        super().__init__(activation="complex_modrelu", **shared)

    def _reset_input(self) -> None:
        super()._reset_input()
        if self.h0 is not None:  # of length 1, in expectation
            bound = math.sqrt(1.5 / self.hidden_size)
            nn.init.uniform_(self.h0, -bound, bound)

    @abstractmethod
    def unitary_weight(self) -> Tensor:
        """W (n, n), complex and differentiable."""

    def default_input_std(self) -> float:
        """Glorot's, for real and imaginary parts each, as in the sources."""
        return math.sqrt(2 / (self.input_size + self.hidden_size))

    def recurrent_weight(self) -> Tensor:
        W = self.unitary_weight()
        rows = torch.cat([W.real, -W.imag], -1), torch.cat([W.imag, W.real], -1)
        return torch.cat(rows, -2)

    def promise(self) -> float:
        return distance_to_isometry(self.unitary_weight())


class RNN(Recurrent):
    """h_t = φ(W h_{t−1} + M x_t + b) with an unconstrained W: n² parameters.

    Args:
        init: initial W: "uniform" in ±1/√n, as in ``torch.nn.RNN``; or orthogonal, "henaff",
            "cayley", "identity" or "random", see :func:`svdbench.nn.spectral_weight.start`.
    """

    name = "rnn"
    kind = "free"
    source = "Elman, Finding Structure in Time, Cognitive Science 1990"

    def __init__(
        self, *, activation: str = "tanh", init: str = "uniform", **shared: Unpack[Shared]
    ) -> None:
        super().__init__(activation=activation, **shared)
        if init != "uniform" and init not in STARTS:
            raise ValueError(f"init is {init!r}: choose from uniform, {', '.join(STARTS)}")
        self.init = init
        self.W = nn.Parameter(torch.empty(self.hidden_size, self.hidden_size))
        self.reset_weight()

    def reset_weight(self) -> None:
        n = self.hidden_size
        if self.init == "uniform":
            nn.init.uniform_(self.W, -1 / math.sqrt(n), 1 / math.sqrt(n))
        else:
            assign(self.W, start(self.init, n))

    def recurrent_weight(self) -> Tensor:
        return self.W

    def weight_parameters(self) -> int:
        return self.hidden_size**2


class IRNN(RNN):
    """h_t = relu(W h_{t−1} + M x_t + b) with W initialised to I: n² parameters.

    Its gradients can explode: clip them, as the source does.
    """

    name = "irnn"
    source = "Le, Jaitly and Hinton, A Simple Way to Initialize Recurrent Networks, 2015"

    def __init__(
        self, *, activation: str = "relu", init: str = "identity", **shared: Unpack[Shared]
    ) -> None:
        shared.setdefault("input_std", 0.001)
        super().__init__(activation=activation, init=init, **shared)

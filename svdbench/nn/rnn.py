"""``SpectralRNN`` and ``OrthogonalRNN``: called like ``torch.nn.RNN``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.arguments import integer
from svdbench.nn.activations import ACTIVATIONS
from svdbench.nn.recurrence import recurrence
from svdbench.nn.spectral_weight import OrthogonalWeight, SpectralWeight

Weight = SpectralWeight | OrthogonalWeight


class RecurrentLayer(nn.Module):
    """One layer in one direction: h_t = φ(W h_{t−1} + M x_t + b), W built once a pass.

    M and b start uniform in ±1/√n, as in ``torch.nn.RNN``, and modReLU's bias at zero.
    """

    modrelu_bias: nn.Parameter | None

    def __init__(
        self, input_size: int, weight: Weight, nonlinearity: str, bias: bool, reverse: bool
    ) -> None:
        super().__init__()
        n, free = weight.n, weight.U.free
        self.nonlinearity, self.reverse = nonlinearity, reverse
        self.weight = weight
        self.input = nn.Linear(input_size, n, bias, device=free.device, dtype=free.dtype)
        for parameter in self.input.parameters():
            nn.init.uniform_(parameter, -(n**-0.5), n**-0.5)
        phi = ACTIVATIONS[nonlinearity]
        threshold = nn.Parameter(free.new_zeros(phi.bias_size(n))) if phi.needs_bias else None
        self.register_parameter("modrelu_bias", threshold)

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """States (T, B, n) in the order of x (T, B, input_size), and the last one made."""
        u = self.input(x)
        states = recurrence(
            u.flip(0) if self.reverse else u,
            self.weight(),
            h0,
            activation=self.nonlinearity,
            bias=self.modrelu_bias,
        )
        return states.flip(0) if self.reverse else states, states[-1]

    def extra_repr(self) -> str:
        return f"nonlinearity={self.nonlinearity!r}, reverse={self.reverse}"


class _RNN(nn.Module):
    """Layers and directions, stacked as in ``torch.nn.RNN``."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        nonlinearity: str,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        make_weight: Callable[[], Weight],
    ) -> None:
        super().__init__()
        input_size = integer("input_size", input_size)
        hidden_size = integer("hidden_size", hidden_size)
        num_layers = integer("num_layers", num_layers)
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(
                f"input_size, hidden_size and num_layers must be 1 or more, "
                f"not {input_size}, {hidden_size} and {num_layers}"
            )
        if nonlinearity not in ACTIVATIONS:
            raise ValueError(
                f"unknown nonlinearity {nonlinearity!r}: choose from {', '.join(ACTIVATIONS)}"
            )
        if nonlinearity == "complex_modrelu" and hidden_size % 2:
            raise ValueError(f"complex_modrelu needs an even hidden_size, not {hidden_size}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability from 0 to 1, not {dropout}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.nonlinearity, self.bias, self.batch_first = nonlinearity, bias, batch_first
        self.dropout, self.bidirectional = dropout, bidirectional
        directions = 2 if bidirectional else 1
        self.layers = nn.ModuleList(
            RecurrentLayer(
                directions * hidden_size if layer else input_size,
                make_weight(),
                nonlinearity,
                bias,
                reverse=direction == 1,
            )
            for layer in range(num_layers)
            for direction in range(directions)
        )

    def forward(self, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Output and last states, of the shapes that ``torch.nn.RNN`` returns.

        Args:
            x: (T, B, input_size), (B, T, input_size) if batch_first, or (T, input_size).
            h0: first states (layers·directions, B, n), or (layers·directions, n) if x has
                no batch; zeros by default.

        Returns:
            Output (T, B, directions·n), laid out as x, and last states as h0.

        Raises:
            TypeError: x is a packed sequence.
            ValueError: shapes that don't fit, or no time step at all.
        """
        if not isinstance(x, Tensor):
            raise TypeError(
                f"{type(self).__name__} takes padded tensors, not {type(x).__name__}: "
                f"use torch.nn.utils.rnn.pad_packed_sequence first"
            )
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"x must be {'(B, T' if self.batch_first else '(T, B'}, {self.input_size}) or "
                f"(T, {self.input_size}), not {tuple(x.shape)}"
            )
        if x.ndim == 2:
            x = x.unsqueeze(1)
            output, last = self._run(x, None if h0 is None else h0.unsqueeze(1))
            return output.squeeze(1), last.squeeze(1)
        output, last = self._run(x.transpose(0, 1) if self.batch_first else x, h0)
        return output.transpose(0, 1) if self.batch_first else output, last

    def _run(self, x: Tensor, h0: Tensor | None) -> tuple[Tensor, Tensor]:
        if len(x) == 0:
            raise ValueError("x has no time steps: give one at least")
        expected = len(self.layers), x.shape[1], self.hidden_size
        if h0 is not None and h0.shape != expected:
            raise ValueError(
                f"h0 must hold {expected[0]} states (layers·directions), batch {expected[1]} "
                f"and {expected[2]} hidden units, not {tuple(h0.shape)}"
            )
        first = [None] * len(self.layers) if h0 is None else h0.unbind(0)
        directions, last = 2 if self.bidirectional else 1, []
        for i in range(0, len(self.layers), directions):
            if i:
                x = nn.functional.dropout(x, self.dropout, self.training)
            ran = [self.layers[j](x, first[j]) for j in range(i, i + directions)]
            last += [h for _, h in ran]
            x = torch.cat([states for states, _ in ran], -1) if self.bidirectional else ran[0][0]
        return x, torch.stack(last)

    def extra_repr(self) -> str:
        """Arguments that differ from the defaults, as ``torch.nn.RNN`` shows them."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {
            "num_layers": 1,
            "nonlinearity": "tanh",
            "bias": True,
            "batch_first": False,
            "dropout": 0,
            "bidirectional": False,
        }
        for name, default in defaults.items():
            if getattr(self, name) != default:
                parts.append(f"{name}={getattr(self, name)!r}")
        return ", ".join(parts)


class SpectralRNN(_RNN):
    """h_t = φ(W h_{t−1} + M x_t + b) with the singular values of W in [σ* − r, σ* + r].

    W = U diag(σ) Vᵀ is made of m₁ + m₂ Householder reflectors, see
    :class:`svdbench.nn.SpectralWeight`. Called like ``torch.nn.RNN``, with the same shapes;
    but there is one bias where torch has two, packed sequences are refused, and
    ``modrelu`` and ``identity`` are nonlinearities too. A layer in one direction has
    (input_size + m₁ + m₂ + 2)n − (m₁² + m₂² − m₁ − m₂)/2 parameters, and n more for modReLU.

    Args:
        input_size: entries of x_t.
        hidden_size: n, entries of h_t.
        num_layers: layers, each of them fed the states of the one before.
        nonlinearity: φ, "tanh", "relu", "identity", "modrelu" or "complex_modrelu", see
            :func:`svdbench.nn.recurrence`.
        bias: whether there is a b.
        batch_first: whether x is (B, T, input_size), and the output likewise.
        dropout: probability, between layers and when training.
        bidirectional: run a second set of layers from the end to the start.
        m1, m2: number of reflectors of U and V, 1 … n; by default n, which reaches every
            matrix with such singular values.
        sigma: σ*.
        radius: r ≥ 0.
        init: what W starts at: σ* times "henaff", "cayley", "identity" or "random".

    Raises:
        ValueError: sizes, numbers of reflectors or r out of range; an unknown name.

    Example:
        >>> rnn = SpectralRNN(10, 20, num_layers=2)
        >>> output, h_n = rnn(torch.randn(5, 3, 10))
        >>> output.shape, h_n.shape
        (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]))

    Source: Zhang, Lei, Dhillon, "Stabilizing Gradients for Deep Neural Networks via
    Efficient SVD Parameterization", ICML 2018.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        m1: int | None = None,
        m2: int | None = None,
        sigma: float = 1.0,
        radius: float = 0.01,
        init: str = "henaff",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        left = hidden_size if m1 is None else m1
        right = hidden_size if m2 is None else m2
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            nonlinearity,
            bias,
            batch_first,
            dropout,
            bidirectional,
            lambda: SpectralWeight(
                hidden_size,
                left,
                right,
                sigma=sigma,
                radius=radius,
                init=init,
                device=device,
                dtype=dtype,
            ),
        )


class OrthogonalRNN(_RNN):
    """h_t = φ(W h_{t−1} + M x_t + b) with W orthogonal, a product of m Householder reflectors.

    As :class:`SpectralRNN` with all singular values 1 and one product instead of two, see
    :class:`svdbench.nn.OrthogonalWeight`.

    Args:
        n_reflectors: m, 1 … n; by default n, which reaches every orthogonal matrix.
        others: as of :class:`SpectralRNN`.

    Raises:
        ValueError: sizes or n_reflectors out of range; an unknown name.

    Source: Mhammedi et al., "Efficient orthogonal parametrisation of recurrent neural
    networks using Householder reflections", ICML 2017.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        n_reflectors: int | None = None,
        init: str = "henaff",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        m = hidden_size if n_reflectors is None else n_reflectors
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            nonlinearity,
            bias,
            batch_first,
            dropout,
            bidirectional,
            lambda: OrthogonalWeight(hidden_size, m, init=init, device=device, dtype=dtype),
        )

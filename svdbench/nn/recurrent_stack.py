"""Stacked recurrent layers with the interface of ``torch.nn.RNN``."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from svdbench.arguments import integer, number
from svdbench.nn.activations import ACTIVATIONS
from svdbench.nn.recurrence import recurrence
from svdbench.nn.recurrence_loops import PackedLayout, packed_layout
from svdbench.nn.spectral_weight import OrthogonalWeight, SpectralWeight

Weight = SpectralWeight | OrthogonalWeight


class RecurrentLayer(nn.Module):
    """One layer in one direction: h_t = φ(W h_{t−1} + M x_t + b), with W built once per pass.

    M and b are initialised uniformly in ±1/√n, as in ``torch.nn.RNN``, and modReLU's bias to zero.
    """

    weight: Weight
    modrelu_bias: nn.Parameter | None

    def __init__(
        self, input_size: int, weight: Weight, nonlinearity: str, bias: bool, reverse: bool
    ) -> None:
        super().__init__()
        n, free = weight.n, weight.U.free
        self.nonlinearity, self.reverse = nonlinearity, reverse
        self.weight = weight
        self.input = nn.Linear(input_size, n, bias, device="meta", dtype=free.dtype)
        for name, parameter in self.input.named_parameters():
            setattr(self.input, name, nn.Parameter(free.new_empty(parameter.shape)))
        # Its own would start it in another way than this layer does.
        self.input.reset_parameters = self.reset_input  # type: ignore[method-assign]
        phi = ACTIVATIONS[nonlinearity]
        threshold = nn.Parameter(free.new_empty(phi.bias_size(n))) if phi.needs_bias else None
        self.register_parameter("modrelu_bias", threshold)
        self.reset_input()

    def reset_parameters(self) -> None:
        """Initialise all parameters again."""
        self.weight.reset_parameters()
        self.reset_input()

    def reset_input(self) -> None:
        """Initialise M, b and modReLU's bias again."""
        bound = self.weight.n**-0.5
        for parameter in self.input.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        if self.modrelu_bias is not None:
            nn.init.zeros_(self.modrelu_bias)

    def forward(
        self, x: Tensor, h0: Tensor | None = None, layout: PackedLayout | None = None
    ) -> tuple[Tensor, Tensor]:
        """States (T, B, n) in the order of x (T, B, input_size), and the last states.

        With a layout, x and the states are (N, ...), a row for each step of each sequence.
        """
        if not len(x):
            raise ValueError(f"the input of shape {tuple(x.shape)} has no step: give at least one")
        u = self.input(x)
        states = recurrence(
            _reversed(u, layout) if self.reverse else u,
            self.weight(),
            h0,
            activation=self.nonlinearity,
            bias=self.modrelu_bias,
            layout=layout,
        )
        last = states[-1] if layout is None else states.index_select(0, layout.last)
        return _reversed(states, layout) if self.reverse else states, last

    def extra_repr(self) -> str:
        return f"nonlinearity={self.nonlinearity!r}, reverse={self.reverse}"


def _reversed(rows: Tensor, layout: PackedLayout | None) -> Tensor:
    """Each sequence from its end to its start."""
    return rows.flip(0) if layout is None else rows.index_select(0, layout.reverse)


class RecurrentStack(nn.Module):
    """Layers and directions, stacked and called as in ``torch.nn.RNN``."""

    layers: Sequence[RecurrentLayer]

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
        for name, value in {"bias": bias, "batch_first": batch_first}.items():
            if not isinstance(value, bool):
                raise TypeError(f"{name} is {value!r}: give True or False")
        dropout = number("dropout", dropout)
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is a probability from 0 to 1, not {dropout}")
        if dropout and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero "
                f"dropout expects num_layers greater than 1, but got dropout={dropout} and "
                f"num_layers={num_layers}",
                stacklevel=3,
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.nonlinearity, self.bias, self.batch_first = nonlinearity, bias, batch_first
        self.dropout, self.bidirectional = dropout, bidirectional
        self.layers = nn.ModuleList(  # type: ignore[assignment]
            RecurrentLayer(
                self.directions * hidden_size if layer else input_size,
                make_weight(),
                nonlinearity,
                bias,
                reverse=direction == 1,
            )
            for layer in range(num_layers)
            for direction in range(self.directions)
        )

    @property
    def directions(self) -> int:
        """2 if bidirectional, 1 otherwise."""
        return 2 if self.bidirectional else 1

    def reset_parameters(self) -> None:
        """Initialise all parameters again."""
        for layer in self.layers:
            layer.reset_parameters()

    def flatten_parameters(self) -> None:
        """Do nothing; for compatibility with ``torch.nn.RNN``."""

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction, forward before reverse.

        M, the reflectors of U (and of V, and σ̂, of a ``SpectralRNN``), b if there is one, and
        modReLU's bias.
        """
        return [
            [
                parameter
                for parameter in (
                    layer.input.weight,
                    *layer.weight.parameters(),
                    layer.input.bias,
                    layer.modrelu_bias,
                )
                if parameter is not None
            ]
            for layer in self.layers
        ]

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | None = None, *, h0: Tensor | None = None
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Output and last states, of the shapes that ``torch.nn.RNN`` returns.

        Args:
            input: (T, B, input_size), (B, T, input_size) if batch_first, or (T, input_size); or a
                ``torch.nn.utils.rnn.PackedSequence``, sorted by length or not.
            hx: initial states (layers·directions, B, n), or (layers·directions, n) if the input has
                no batch; zeros by default.
            h0: another name for hx.

        Returns:
            Output (T, B, directions·n), laid out or packed as the input, and last states as hx.

        Raises:
            TypeError: the input is neither a tensor nor a packed sequence.
            ValueError: shapes or dtypes that don't match, or no time step.
        """
        if h0 is not None:
            if hx is not None:
                raise TypeError("hx and h0 are the same argument: give one of them")
            hx = h0
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if not isinstance(input, Tensor):
            raise TypeError(
                f"input is of type {type(input).__name__}: give a tensor or a PackedSequence"
            )
        if input.ndim not in (2, 3) or input.shape[-1] != self.input_size:
            raise ValueError(
                f"input must be {'(B, T' if self.batch_first else '(T, B'}, {self.input_size}) or "
                f"(T, {self.input_size}), not {tuple(input.shape)}"
            )
        if input.ndim == 2:
            self._check(input, hx, ())
            output, last = self._run(input.unsqueeze(1), None if hx is None else hx.unsqueeze(1))
            return output.squeeze(1), last.squeeze(1)
        x = input.transpose(0, 1) if self.batch_first else input
        self._check(x, hx, (x.shape[1],))
        output, last = self._run(x, hx)
        return output.transpose(0, 1) if self.batch_first else output, last

    @torch.compiler.disable
    def _forward_packed(
        self, packed: PackedSequence, hx: Tensor | None
    ) -> tuple[PackedSequence, Tensor]:
        layout = packed_layout(packed.batch_sizes, packed.data.device)
        if packed.data.shape[1:] != (self.input_size,):
            raise ValueError(
                f"packed sequences must have {self.input_size} entries a step, "
                f"not {tuple(packed.data.shape[1:])}"
            )
        self._check(packed.data, hx, (layout.sizes[0],))
        if hx is not None and packed.sorted_indices is not None:
            hx = hx.index_select(1, packed.sorted_indices)
        output, last = self._run(packed.data, hx, layout)
        if packed.unsorted_indices is not None:
            last = last.index_select(1, packed.unsorted_indices)
        return PackedSequence(output, *packed[1:]), last

    def _check(self, x: Tensor, hx: Tensor | None, batch: tuple[int, ...]) -> None:
        dtype = self.layers[0].weight.U.free.dtype
        autocast = x.is_meta or torch.is_autocast_enabled(x.device.type)
        if x.dtype != dtype and not autocast:
            raise ValueError(f"the input is {x.dtype}, the weights are {dtype}: convert one")
        expected = len(self.layers), *batch, self.hidden_size
        if hx is not None and hx.shape != expected:
            names = "(layers·directions, B, n)" if batch else "(layers·directions, n)"
            raise ValueError(f"hx must be {names} = {expected}, not {tuple(hx.shape)}")

    def _run(
        self, x: Tensor, hx: Tensor | None, layout: PackedLayout | None = None
    ) -> tuple[Tensor, Tensor]:
        if x.shape[0] == 0:
            raise ValueError("the input has no time steps: give one at least")
        first = [None] * len(self.layers) if hx is None else hx.unbind(0)
        last: list[Tensor] = []
        for i in range(0, len(self.layers), self.directions):
            if i:
                x = nn.functional.dropout(x, self.dropout, self.training)
            pair = range(i, i + self.directions)
            ran = [self.layers[j](x, first[j], layout) for j in pair]
            last += [h for _, h in ran]
            x = torch.cat([states for states, _ in ran], -1) if self.bidirectional else ran[0][0]
        return x, torch.stack(last)

    @torch.no_grad()
    def to_rnn(self) -> nn.RNN:
        """A ``torch.nn.RNN`` with copies of the weights.

        For ONNX (``torch.onnx.export(rnn.to_rnn(), ..., dynamo=True)``: any batch size, but a fixed
        number of steps, because PyTorch unrolls the network), for ``torch.jit.trace`` (any number
        of steps) and for cuDNN. Its second bias is zero.

        Raises:
            ValueError: a nonlinearity that ``torch.nn.RNN`` doesn't have.
        """
        if self.nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"torch.nn.RNN has no nonlinearity {self.nonlinearity!r}: it has tanh and relu"
            )
        free = self.layers[0].weight.U.free
        rnn = nn.RNN(
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.nonlinearity,
            self.bias,
            self.batch_first,
            bidirectional=self.bidirectional,
            device=free.device,
            dtype=free.dtype,
        )
        rnn.dropout = self.dropout
        for layer, weights in zip(self.layers, rnn.all_weights, strict=True):
            weights[0].copy_(layer.input.weight)
            weights[1].copy_(layer.weight())
            if self.bias:
                weights[2].copy_(layer.input.bias)
                weights[3].zero_()
        return rnn.train(self.training)

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

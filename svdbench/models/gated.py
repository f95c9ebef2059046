"""LSTM and GRU, in torch's implementations."""

from collections.abc import Callable
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from .base import ModelSizes, SequenceModel


class Gated(SequenceModel):
    """A gated network of ``torch.nn``, with one bias per gate.

    torch adds a second bias to each gate; it stays zero here, so that the number of parameters and
    training are as in the sources. The state is what is read out; an LSTM's cell state starts at
    zero for any h₀.

    Args:
        gates: blocks of n rows in the weights.
        rnn: class of the network, ``torch.nn.LSTM`` or ``torch.nn.GRU``.
    """

    kind = "gated"

    def __init__(
        self, gates: int, rnn: Callable[[int, int], Any], **shared: Unpack[ModelSizes]
    ) -> None:
        super().__init__(**shared)
        self.gates = gates
        self.rnn = rnn(self.input_size, self.hidden_size)
        self.rnn.bias_hh_l0.requires_grad_(False)
        self._reset_biases()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self._reset_biases()

    def _reset_biases(self) -> None:
        nn.init.zeros_(self.rnn.bias_hh_l0)

    def before(self, h: Tensor, after: Any = None) -> Any:
        """The state that torch expects before a step: h (1, B, n), with the rest of ``after``."""
        return h

    def states(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        states: Tensor = self.rnn(x, None if h0 is None else self.before(h0.unsqueeze(0)))[0]
        return states

    def unrolled(self, x: Tensor, h0: Tensor | None = None) -> list[Tensor]:
        before = None if h0 is None else self.before(h0.unsqueeze(0))
        states = []
        for u in x.unbind(0):
            output, after = self.rnn(u.unsqueeze(0), before)
            states.append(output.squeeze(0))
            before = self.before(states[-1].unsqueeze(0), after)
        return states

    def expected_parameters(self) -> int:
        """Each gate has weights for the input and the previous state, and a bias; plus readout."""
        gate = self.hidden_size * (self.input_size + self.hidden_size + 1)
        return self.gates * gate + self.readout_parameters()


class LSTM(Gated):
    """An LSTM with forget gates and without peepholes: 4n(n_i + n + 1) parameters.

    Args:
        forget_bias: initial bias of the forget gates; with 1, the cell remembers from the start.
    """

    name = "lstm"
    source = (
        "Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 1997; "
        "forget bias: Jozefowicz, Zaremba and Sutskever, ICML 2015"
    )

    def __init__(self, *, forget_bias: float = 1.0, **shared: Unpack[ModelSizes]) -> None:
        self.forget_bias = forget_bias
        super().__init__(gates=4, rnn=nn.LSTM, **shared)

    def _reset_biases(self) -> None:
        super()._reset_biases()
        # torch's order of the gates: input, forget, cell, output
        nn.init.constant_(self.rnn.bias_ih_l0.chunk(4)[1], self.forget_bias)

    def before(self, h: Tensor, after: Any = None) -> tuple[Tensor, Tensor]:
        return h, torch.zeros_like(h) if after is None else after[1]


class GRU(Gated):
    """A GRU that resets after the product, as in torch: 3n(n_i + n + 1) parameters."""

    name = "gru"
    source = "Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014"

    def __init__(self, **shared: Unpack[ModelSizes]) -> None:
        super().__init__(gates=3, rnn=nn.GRU, **shared)

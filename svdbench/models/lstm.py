"""Long short-term memory."""

from typing import Any

import torch
from torch import Tensor, nn

from ._gated import Gated


class LSTM(Gated):
    """An LSTM with forget gates and without peepholes: 4n(n_i + n + 1) parameters.

    Args:
        forget_bias: of the forget gates at first; 1 lets the cell remember from the start.
    """

    source = (
        "Hochreiter and Schmidhuber, Long Short-Term Memory, Neural Computation 1997; "
        "forget bias: Jozefowicz, Zaremba and Sutskever, ICML 2015"
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        forget_bias: float = 1.0,
        readout_bias: bool = True,
    ) -> None:
        super().__init__(
            input_size, hidden_size, output_size, gates=4, rnn=nn.LSTM, readout_bias=readout_bias
        )
        with torch.no_grad():  # torch's order of the gates: input, forget, cell, output
            self.rnn.bias_ih_l0[hidden_size : 2 * hidden_size] = forget_bias

    def before(self, h: Tensor, after: Any = None) -> tuple[Tensor, Tensor]:
        return h, torch.zeros_like(h) if after is None else after[1]

"""The Elman network, with a free recurrent weight."""

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from svdbench.nn.starts import STARTS, start

from ._recurrent import Recurrent, Shared


class RNN(Recurrent):
    """h_t = φ(W h_{t−1} + M x_t + b), any W: n² parameters.

    Args:
        init: W at first: "uniform" in ±1/√n, as in ``torch.nn.RNN``; or orthogonal,
            "henaff", "cayley", "identity" or "random", see :func:`svdbench.nn.starts.start`.
    """

    kind = "free"
    source = "Elman, Finding Structure in Time, Cognitive Science 1990"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        activation: str = "tanh",
        init: str = "uniform",
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(input_size, hidden_size, output_size, activation=activation, **shared)
        self.W = nn.Parameter(torch.empty(hidden_size, hidden_size))
        if init == "uniform":
            nn.init.uniform_(self.W, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))
        elif init in STARTS:
            self.W.data.copy_(start(init, hidden_size))
        else:
            raise ValueError(f"init is {init!r}: choose from uniform, {', '.join(STARTS)}")

    def recurrent_weight(self) -> Tensor:
        return self.W

    def weight_parameters(self) -> int:
        return self.hidden_size**2

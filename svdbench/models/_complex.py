"""Networks with n complex hidden units, as real ones with 2n: real parts, imaginary parts."""

import math
from abc import abstractmethod
from typing import Unpack

import torch
from torch import Tensor, nn

from ._recurrent import Recurrent, Shared, distance_to_isometry


class ComplexRecurrent(Recurrent):
    """h_t = φ(W h_{t−1} + M x_t), W (n, n) unitary, φ the complex modReLU; h₀ learnt by default.

    n is ``hidden_size``; a state is (Re h, Im h), 2n numbers, and so is the readout's input.
    ``recurrent_weight`` is [[Re W, −Im W], [Im W, Re W]], (2n, 2n).
    """

    kind = "unitary"
    numbers_per_unit = 2
    activations = ("complex_modrelu",)

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int, **shared: Unpack[Shared]
    ) -> None:
        shared.setdefault("learn_h0", True)
        super().__init__(
            input_size, hidden_size, output_size, activation="complex_modrelu", **shared
        )
        if self.h0 is not None:  # of length 1, in expectation
            bound = math.sqrt(1.5 / hidden_size)
            nn.init.uniform_(self.h0, -bound, bound)

    @abstractmethod
    def unitary_weight(self) -> Tensor:
        """W (n, n), complex and differentiable."""

    def default_input_std(self) -> float:
        """Glorot's, for real and imaginary parts each, as the sources have it."""
        return math.sqrt(2 / (self.input_size + self.hidden_size))

    def recurrent_weight(self) -> Tensor:
        W = self.unitary_weight()
        rows = torch.cat([W.real, -W.imag], -1), torch.cat([W.imag, W.real], -1)
        return torch.cat(rows, -2)

    def promise(self) -> float:
        return distance_to_isometry(self.unitary_weight())

"""The network of rectified linear units that starts from the identity."""

from typing import Unpack

from ._recurrent import Shared
from .rnn import RNN


class IRNN(RNN):
    """h_t = relu(W h_{t−1} + M x_t + b) with W = I at first: n² parameters, all free.

    Its gradients can explode: the source clips them, which is up to who trains it.
    """

    kind = "free"
    source = "Le, Jaitly and Hinton, A Simple Way to Initialize Recurrent Networks, 2015"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        activation: str = "relu",
        init: str = "identity",
        **shared: Unpack[Shared],
    ) -> None:
        shared.setdefault("input_std", 0.001)
        super().__init__(
            input_size, hidden_size, output_size, activation=activation, init=init, **shared
        )

"""The gated recurrent unit."""

from torch import nn

from ._gated import Gated


class GRU(Gated):
    """A GRU as torch has it, resetting after the product: 3n(n_i + n + 1) parameters."""

    source = "Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014"

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int, *, readout_bias: bool = True
    ) -> None:
        super().__init__(
            input_size, hidden_size, output_size, gates=3, rnn=nn.GRU, readout_bias=readout_bias
        )

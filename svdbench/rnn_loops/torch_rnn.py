"""torch.nn.RNN."""

import torch
from torch import Tensor, nn

from ._module import TorchModule


class TorchRNN(TorchModule):
    """h_t = tanh(W h_{t−1} + b + M x_t + c), W (d, d) free."""

    kind = "rnn"
    source = "torch.nn.RNN; Elman, Finding Structure in Time, Cognitive Science 1990"
    module = nn.RNN
    gates = 1

    def reference(self, M: Tensor, W: Tensor, c: Tensor, b: Tensor, X: Tensor) -> Tensor:
        h, states = X.new_zeros(X.shape[1], len(b)), []
        for x in X.unbind():
            h = torch.tanh(h @ W.T + b + x @ M.T + c)
            states.append(h)
        return torch.stack(states)

"""torch.nn.LSTM."""

import torch
from torch import Tensor, nn

from ._module import TorchModule


class TorchLSTM(TorchModule):
    """c ← f ∘ c + i ∘ g, h ← o ∘ tanh c, with i, f, g, o from four products W h + M x."""

    kind = "lstm"
    source = "torch.nn.LSTM; Hochreiter and Schmidhuber, Neural Computation 1997"
    module = nn.LSTM
    gates = 4

    def reference(self, M: Tensor, W: Tensor, c: Tensor, b: Tensor, X: Tensor) -> Tensor:
        h = cell = X.new_zeros(X.shape[1], W.shape[1])
        states = []
        for x in X.unbind():
            i, f, g, o = (h @ W.T + b + x @ M.T + c).chunk(4, -1)
            cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
            h = o.sigmoid() * cell.tanh()
            states.append(h)
        return torch.stack(states)

"""torch.nn.GRU."""

import torch
from torch import Tensor, nn

from ._module import TorchModule


class TorchGRU(TorchModule):
    """h ← (1 − z) ∘ g + z ∘ h with r, z and g = tanh(M x + c + r ∘ (W h + b))."""

    kind = "gru"
    source = "torch.nn.GRU; Cho et al., RNN Encoder-Decoder, EMNLP 2014"
    module = nn.GRU
    gates = 3

    def reference(self, M: Tensor, W: Tensor, c: Tensor, b: Tensor, X: Tensor) -> Tensor:
        h, states = X.new_zeros(X.shape[1], W.shape[1]), []
        for x in X.unbind():
            r_x, z_x, g_x = (x @ M.T + c).chunk(3, -1)
            r_h, z_h, g_h = (h @ W.T + b).chunk(3, -1)
            z = (z_x + z_h).sigmoid()
            h = (1 - z) * (g_x + (r_x + r_h).sigmoid() * g_h).tanh() + z * h
            states.append(h)
        return torch.stack(states)

"""The forward pass of a ``torch.nn.Linear`` whose weight is kept orthonormal."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from svdbench.nn.rows import expected_rows, map_rows
from svdbench.nn.stiefel import Stiefel

PLAIN = (Tensor, nn.Parameter)  # not those of torch.fx, of a mode or of a distributed model


def linear_forward(self: nn.Linear, input: Tensor) -> Tensor:
    """x Wᵀ + b by applying the reflectors to x, where that takes fewer operations than to build W.

    W is built after all if it is cached, or if anything but ``Stiefel`` has a say in it:
    another parametrisation, a hook, a tensor of another kind.
    """
    entries: Any = self._modules.get("parametrizations")
    entry = entries._modules.get("weight") if entries is not None else None
    if entry is None or not _reflects(entry, input, self.in_features):
        return nn.functional.linear(input, self.weight, self.bias)
    stiefel, V = entry._modules["0"], entry.original
    return map_rows(partial(stiefel.apply_to_rows, V), input, V.dtype, self.bias)


def _reflects(entry: Any, x: Tensor, in_features: int) -> bool:
    # Asked at each call, so by the shortest way.
    stiefel, V = entry._modules["0"], entry.original
    if type(stiefel) is not Stiefel or len(entry._modules) != 1 or parametrize._cache_enabled:
        return False
    if type(x) not in PLAIN or type(V) not in PLAIN or V.is_complex():
        return False
    for module in (entry, stiefel):
        if module._forward_hooks or module._forward_pre_hooks:
            return False
    if x.ndim == 0 or (not torch.jit.is_tracing() and x.shape[-1] != in_features):
        return False  # torch.nn.functional.linear says what is wrong
    if x.dtype is not V.dtype and (x.is_meta or not torch.is_autocast_enabled(x.device.type)):
        return False
    # A reflector of length d takes 4d operations on a column: on N of them, or on the r of W,
    # which then takes 2dr for each row.
    n, r, N = stiefel.n_reflectors, stiefel.r, expected_rows(x)
    return 4 * n * N <= 4 * n * r + 2 * r * N

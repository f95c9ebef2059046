"""Floating-point operations of a function, counted as PyTorch runs it."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operators whose cost their shapes do not tell: decompositions, iterations and fused loops.
_OPAQUE = (
    *("linalg", "lu_", "triangular", "cholesky", "ormqr", "geqrf", "svd", "eig", "fft"),
    *("matrix_exp", "householder", "lstm", "gru", "rnn", "mkldnn", "attention", "conv"),
)
_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "addr", "dot", "ger", "vdot")


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.flops, self.opaque = 0.0, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        if not func._schema.name.startswith("aten::") or any(part in name for part in _OPAQUE):
            self.opaque = True
        elif name.removesuffix("_") in _PRODUCTS:
            self.flops += _product(name, args)
        elif not func.is_view:
            self.flops += max(
                (t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)), default=0
            )
        return out


def _product(name: str, args: Any) -> float:
    """2 m k n of a product of matrices (m, k) and (k, n), and so on."""
    tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
    *_, a, b = tensors
    if name.startswith(("addr", "ger")):
        return 2.0 * a.numel() * b.numel()
    if b.ndim == 1 or a.ndim == 1:
        return 2.0 * max(a.numel(), b.numel())
    return 2.0 * math.prod(a.shape) * b.shape[-1]


def operations_counted(work: Callable[[], Any]) -> tuple[float, bool]:
    """The operations of a call, and whether the count is complete.

    Products count a multiply and an add as two; any other operator counts one for each element
    of its result. Decompositions and operators outside PyTorch count nothing, and the count is
    then incomplete: a lower bound.
    """
    with _Counting() as counting:
        work()
    return counting.flops, not counting.opaque

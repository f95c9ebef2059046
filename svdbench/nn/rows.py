"""What linear layers share that apply reflectors to the rows of x instead of building W."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def number_of_rows(x: Tensor) -> int | None:
    """The rows of x (..., in); None in a graph, which serves any number of them."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return None
    number = math.prod(x.shape[:-1])
    return number if isinstance(number, int) else None


def expected_rows(x: Tensor) -> int:
    """How many rows a layer should expect: those of x, but 256 in a graph."""
    number = number_of_rows(x)
    return 256 if number is None else number


def map_rows(
    f: Callable[[Tensor], Tensor], x: Tensor, dtype: torch.dtype, bias: Tensor | None
) -> Tensor:
    """f applied to x (..., in) as a matrix, with a bias; under autocast as a linear layer.

    Args:
        f: takes and returns rows, (N, in) to (N, out).
        x: the input.
        dtype: what f computes in; x has it already, unless autocast is on.
        bias: (out,) or None.
    """
    autocast = not x.is_meta and torch.is_autocast_enabled(x.device.type)
    rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
    y = f(rows.to(dtype) if autocast else rows)
    if x.ndim != 2:
        y = y.reshape(*x.shape[:-1], y.shape[-1])
    if bias is not None:
        y = y + bias
    return y.to(torch.get_autocast_dtype(x.device.type)) if autocast else y

"""What a convolution multiplies with its folded kernel: patches of its input, as rows.

Rows are (R, n), or (groups, R, n) for a convolution in groups, and come in pieces, as they are
several times as many numbers as the input.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Numbers in a piece, about: few enough to stay far below the size of a model.
PIECE = 2**21


def patches(conv: Any, x: Tensor, *, columns_only: bool) -> Iterator[Tensor]:
    """Rows of patches (c, *kernel), where a kernel lies; or of their columns (c, h).

    The columns, of a two-dimensional convolution, are those at all positions that a kernel
    reaches, each counted once.
    """
    x = _batched(conv, x)
    dims = 1 if columns_only else len(conv.kernel_size)
    per_example = x[0].numel() * _product(conv.kernel_size[:dims])
    for part in x.split(max(1, PIECE // max(per_example, 1))):
        z = _padded(conv, part)
        if columns_only:
            z = z[..., _reached(conv, _width(conv, z))]
        for axis in range(dims):
            span = conv.dilation[axis] * (conv.kernel_size[axis] - 1) + 1
            z = z.unfold(2 + axis, span, conv.stride[axis])[..., :: conv.dilation[axis]]
        yield _as_rows(conv, z.unflatten(1, (conv.groups, -1)), inner=dims)


def output_gradients(conv: Any, g: Tensor) -> Iterator[Tensor]:
    """Rows (o,) of the gradient at a convolution's output, a row for each position."""
    g = _batched(conv, g)
    yield _as_rows(conv, g.unflatten(1, (conv.groups, -1)), inner=0)


def column_gradients(conv: nn.Conv2d, g: Tensor) -> Iterator[Tensor]:
    """Rows (o, w) of the gradient at what the folded kernel makes of each column, exactly.

    The output is the sum of those, each shifted by its place in the kernel, and so the gradient
    at column j of the input, for place w in the kernel, is that of the output at j − w.
    """
    g = _batched(conv, g)
    w, step, apart = conv.kernel_size[1], conv.stride[1], conv.dilation[1]
    width = g.shape[-1]
    used = _reached(conv, width)
    for part in g.split(max(1, PIECE // max(g[0].numel() * w, 1))):
        at_columns = part.new_zeros(*part.shape[:2], w, part.shape[2], int(used[-1]) + 1)
        for place in range(w):
            first = place * apart
            at_columns[:, :, place, :, first : first + step * (width - 1) + 1 : step] = part
        z = at_columns[..., used].unflatten(1, (conv.groups, -1))  # (B, g, o, w, H, columns)
        yield _as_rows(conv, z.movedim(3, -1), inner=1)


def _as_rows(conv: Any, z: Tensor, inner: int) -> Tensor:
    """(B, groups, c, *positions, *inner) as rows of (c, *inner)."""
    z = z.movedim(1, 0).movedim(2, -1 - inner)
    rows = z.reshape(conv.groups, -1, _product(z.shape[z.ndim - 1 - inner :]))
    return rows[0] if conv.groups == 1 else rows


def _batched(conv: Any, x: Tensor) -> Tensor:
    return x if x.ndim == len(conv.kernel_size) + 2 else x.unsqueeze(0)


def _padded(conv: Any, x: Tensor) -> Tensor:
    """With the padding that the convolution gives it, "same" included."""
    around: list[int] = []
    for axis in reversed(range(len(conv.kernel_size))):
        if conv.padding == "same":
            total = conv.dilation[axis] * (conv.kernel_size[axis] - 1)
            around += [total // 2, total - total // 2]
        else:
            around += 2 * [0 if conv.padding == "valid" else conv.padding[axis]]
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    return F.pad(x, around, mode=mode) if any(around) else x


def _width(conv: nn.Conv2d, x: Tensor) -> int:
    """Of the output for an input that is padded already."""
    span = conv.dilation[1] * (conv.kernel_size[1] - 1) + 1
    return (x.shape[-1] - span) // conv.stride[1] + 1


def _reached(conv: nn.Conv2d, width: int) -> Tensor:
    """The columns of the padded input that a kernel lies on, for an output of that width."""
    lefts = torch.arange(width).unsqueeze(1) * conv.stride[1]
    return (lefts + torch.arange(conv.kernel_size[1]) * conv.dilation[1]).unique()


def _product(sizes: Sequence[int]) -> int:
    return int(torch.Size(sizes).numel())

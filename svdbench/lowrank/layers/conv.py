"""Convolutions with the kernel as two factors."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from svdbench.lowrank.drivers.base import Driver
from svdbench.lowrank.drivers.truncated import truncated_svd
from svdbench.lowrank.layers.base import Factors, Folding, LowRankMatrix, Split, check_rank, shifted

# Patches are several times as many numbers as the input, so they come in pieces of about this
# many: far below the size of a model.
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
    """Rows (o, w) of the gradient at the folded kernel's product with each column, exact.

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
    """The input with the convolution's padding, "same" included."""
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
    """The width of the output for a padded input."""
    span = conv.dilation[1] * (conv.kernel_size[1] - 1) + 1
    return (x.shape[-1] - span) // conv.stride[1] + 1


def _reached(conv: nn.Conv2d, width: int) -> Tensor:
    """The columns of the padded input that a kernel lies on, for an output of that width."""
    lefts = torch.arange(width).unsqueeze(1) * conv.stride[1]
    return (lefts + torch.arange(conv.kernel_size[1]) * conv.dilation[1]).unique()


def _product(sizes: Sequence[int]) -> int:
    return int(torch.Size(sizes).numel())


# The sizes of a convolution, and what they are along an axis in which it does nothing.
NOTHING = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}


class LowRankConv2d(LowRankMatrix):
    """A convolution whose kernel (out, in, h, w), reshaped to a matrix, is W₁W₂.

    * "spatial": W₁ is (out·w, rank) and W₂ (rank, in·h): a convolution of h×1 to ``rank`` channels,
      then one of 1×w. Takes rank·(in·h + out·w) multiplications per output position instead of
      in·out·h·w (with a stride of 1).
    * "channel": W₁ is (out, rank) and W₂ (rank, in·h·w): a convolution of h×w to ``rank``
      channels, then one of 1×1. Takes rank·(in·h·w + out).

    Padding, stride and dilation are applied along the extent of each kernel, so that the output
    keeps its shape. The bias is in the second convolution. A convolution in groups is one matrix
    for each group, (out/groups·w, in/groups·h) or (out/groups, in/groups·h·w), all of them of the
    same rank.

    Args:
        conv: the dense convolution, for its sizes; its weights are not used.
        rank: rank of the kernel as a matrix, or of each group's.
        folding: "spatial" or "channel".

    Raises:
        ValueError: a rank out of range, or an unknown folding.

    Example:
        >>> layer = LowRankConv2d.from_conv(torch.nn.Conv2d(8, 16, 3), rank=4)
        >>> layer(torch.randn(2, 8, 10, 10)).shape
        torch.Size([2, 16, 8, 8])

    Sources: Jaderberg, Vedaldi, Zisserman, "Speeding up convolutional neural networks with low
    rank expansions", BMVC 2014; Tai et al., "Convolutional neural networks with low-rank
    regularization", ICLR 2016 (spatial, by an SVD); Zhang et al., "Accelerating very deep
    convolutional networks for classification and detection", TPAMI 2016 (channel).
    """

    factors: Mapping[str, tuple[str, str]] = {"weight": ("second.weight", "first.weight")}
    renamed: ClassVar[dict[str, str]] = {"bias": "second.bias"}
    dense: ClassVar[type[Any]] = nn.Conv2d

    def __init__(self, conv: Any, rank: int, folding: Folding = "spatial") -> None:
        super().__init__()
        rank = check_rank(rank, *folded_shape(conv, folding))
        self._build(conv, rank, folding, {"device": conv.weight.device, "dtype": conv.weight.dtype})

    def _build(self, conv: Any, rank: int, folding: Folding, place: dict[str, Any]) -> None:
        self.rank, self.folding, self.groups = rank, folding, conv.groups
        tall, wide = _along(conv, 0), _along(conv, 1)
        if not is_split(conv, folding):
            tall, wide = {name: getattr(conv, name) for name in NOTHING}, {"kernel_size": 1}
        options = {**place, "padding_mode": conv.padding_mode, "groups": conv.groups}
        between, bias = rank * conv.groups, conv.bias is not None
        self.first = self.dense(conv.in_channels, between, bias=False, **tall, **options)
        self.second = self.dense(between, conv.out_channels, bias=bias, **wide, **options)

    @classmethod
    def from_conv(
        cls,
        conv: Any,
        rank: int,
        svd: Driver = truncated_svd,
        *,
        folding: Folding = "spatial",
        split: Split = "balanced",
    ) -> Self:
        """The low-rank convolution nearest to ``conv``, which is not changed.

        Args and errors as in :class:`LowRankConv2d` and
        :meth:`svdbench.lowrank.LowRankLinear.from_linear`.
        """
        return cls._nearest(conv, folded(conv, folding), rank, svd, split, folding)

    @classmethod
    def sharing(
        cls, dense: Any, factors: Mapping[str, Factors], folding: Folding = "spatial"
    ) -> Self:
        conv, (W1, W2, shift) = dense, factors["weight"]
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        rank, trained = W1.shape[-1], W1.requires_grad
        layer._build(conv, rank, folding, {"device": "meta"})
        out, g = conv.out_channels, conv.groups
        channels, kernel = conv.in_channels // g, conv.kernel_size
        if is_split(conv, folding):
            second = W1.detach().reshape(out, 1, kernel[1], rank).permute(0, 3, 1, 2)
            first = W2.detach().reshape(g * rank, channels, kernel[0], 1)
        else:
            second = W1.detach().reshape(out, rank, *(1 for _ in kernel))
            first = W2.detach().reshape(g * rank, channels, *kernel)
        layer.second.weight = nn.Parameter(second.contiguous(), requires_grad=trained)
        layer.first.weight = nn.Parameter(first.contiguous(), requires_grad=trained)
        if shift is not None:
            # Split, each output has one of each of w columns, whose parts are (out, w).
            shift = shift.reshape(out, -1).sum(-1)
        layer.second.bias = shifted(conv.bias, shift)
        return layer.train(conv.training)

    @torch.no_grad()
    def to_conv(self) -> Any:
        """The equivalent ``torch.nn`` convolution, with copies of kernel and bias."""
        first, second = self.first, self.second
        options: dict[str, Any] = {name: getattr(first, name) for name in NOTHING}
        if is_split(first, self.folding):
            for name, value in options.items():
                if not isinstance(value, str):
                    options[name] = value[0], getattr(second, name)[1]
        conv = self.dense(
            first.in_channels,
            second.out_channels,
            bias=second.bias is not None,
            groups=self.groups,
            padding_mode=first.padding_mode,
            device=first.weight.device,
            dtype=first.weight.dtype,
            **options,
        )
        conv.weight.copy_(self.weight)
        if conv.bias is not None:
            conv.bias.copy_(second.bias)
        return conv

    to_dense = to_conv

    @staticmethod
    def product(second: Tensor, first: Tensor) -> Tensor:
        """The dense kernel (out, in, h, w) that two make, linear in each of them."""
        groups = first.shape[0] // second.shape[1]
        W1, W2 = second.unflatten(0, (groups, -1)), first.unflatten(0, (groups, -1))
        if second[0, 0].numel() == 1:  # 1×1, or of a kernel that has no width
            kernel = torch.einsum("gor,gr...->go...", W1.flatten(2), W2)
        else:
            kernel = torch.einsum("gorxw,grchy->gochw", W1, W2)
        return kernel.flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return y

    def extra_repr(self) -> str:
        return f"rank={self.rank}, folding={self.folding}"


class LowRankConv1d(LowRankConv2d):
    """A convolution in one dimension whose kernel (out, in, length), as a matrix, is W₁W₂.

    Its one dimension counts as the height, so both foldings are the same.

    W₁ is (out, rank) and W₂ (rank, in·length): a convolution to ``rank`` channels, then one of
    length 1. See :class:`LowRankConv2d`.

    Example:
        >>> layer = LowRankConv1d.from_conv(torch.nn.Conv1d(8, 16, 3), rank=4)
        >>> layer(torch.randn(2, 8, 10)).shape
        torch.Size([2, 16, 8])
    """

    dense = nn.Conv1d


def folded_shape(conv: Any, folding: Folding = "spatial") -> tuple[int, int]:
    """The rows and columns of the matrix that is factored: of a convolution's kernel, or a group's.

    Raises:
        ValueError: an unknown folding.
    """
    if folding not in ("spatial", "channel"):
        raise ValueError(f"unknown folding {folding!r}: choose spatial or channel")
    out, channels, *kernel = conv.weight.shape
    wide = kernel.pop() if is_split(conv, folding) else 1
    return out // conv.groups * wide, channels * torch.Size(kernel).numel()


def folded(conv: Any, folding: Folding) -> Tensor:
    """The kernel as a matrix (rows, columns), or as (groups, rows, columns)."""
    rows, columns = folded_shape(conv, folding)
    kernel = conv.weight.detach()
    if is_split(conv, folding):
        kernel = kernel.permute(0, 3, 1, 2)
    matrix: Tensor = kernel.reshape(conv.groups, rows, columns)
    return matrix[0] if conv.groups == 1 else matrix


def is_split(conv: Any, folding: Folding) -> bool:
    """Whether the kernel is split into a tall and a wide one."""
    return folding == "spatial" and len(conv.kernel_size) == 2


def _along(conv: Any, axis: int) -> dict[str, Any]:
    """The options of a convolution that acts along one axis alone."""
    options: dict[str, Any] = {}
    for name, nothing in NOTHING.items():
        value = getattr(conv, name)
        if not isinstance(value, str):  # padding may be "same"
            value = (value[0], nothing) if axis == 0 else (nothing, value[-1])
        options[name] = value
    return options

"""``LowRankConv2d``: a convolution as two smaller ones, one after the other."""

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from svdbench.lowrank.drivers.base import Driver
from svdbench.lowrank.drivers.truncated import truncated_svd
from svdbench.lowrank.layers.linear import Split, check_rank, two_factors

Folding = Literal["spatial", "channel"]

# The sizes of a convolution, and what they are along an axis in which it does nothing.
NOTHING = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}


class LowRankConv2d(nn.Module):
    """A convolution whose kernel (out, in, h, w), folded to a matrix, is W₁W₂.

    * "spatial": W₁ is (out·w, rank) and W₂ (rank, in·h): a convolution of h×1 to ``rank``
      channels, then one of 1×w. Takes rank·(in·h + out·w) multiplications for a position of
      the output instead of in·out·h·w (with a stride of 1).
    * "channel": W₁ is (out, rank) and W₂ (rank, in·h·w): a convolution of h×w to ``rank``
      channels, then one of 1×1. Takes rank·(in·h·w + out).

    Padding, stride and dilation go to where the kernel has its extent, so that the output has
    the shape that it had. The bias stands in the second convolution.

    Args:
        conv: the dense convolution, for its sizes; its numbers are not used.
        rank: of the folded kernel.
        folding: "spatial" or "channel".

    Raises:
        ValueError: a convolution in groups, a rank out of range, or an unknown folding.

    Sources: Jaderberg, Vedaldi, Zisserman, "Speeding up convolutional neural networks with low
    rank expansions", BMVC 2014; Tai et al., "Convolutional neural networks with low-rank
    regularization", ICLR 2016 (spatial, by an SVD); Zhang et al., "Accelerating very deep
    convolutional networks for classification and detection", TPAMI 2016 (channel).
    """

    factors: ClassVar[dict[str, tuple[str, str]]] = {"weight": ("second.weight", "first.weight")}
    renamed: ClassVar[dict[str, str]] = {"bias": "second.bias"}

    def __init__(self, conv: nn.Conv2d, rank: int, folding: Folding = "spatial") -> None:
        super().__init__()
        rows, columns = folded_shape(conv, folding)
        check_rank(rank, rows, columns)
        self.rank, self.folding = rank, folding
        options: dict[str, Any] = {
            "padding_mode": conv.padding_mode,
            "device": conv.weight.device,
            "dtype": conv.weight.dtype,
        }
        tall, wide = _along(conv, 0), _along(conv, 1)
        if folding == "channel":
            tall, wide = {name: getattr(conv, name) for name in NOTHING}, {"kernel_size": 1}
        bias = conv.bias is not None
        self.first = nn.Conv2d(conv.in_channels, rank, bias=False, **tall, **options)
        self.second = nn.Conv2d(rank, conv.out_channels, bias=bias, **wide, **options)

    @classmethod
    @torch.no_grad()
    def from_conv(
        cls,
        conv: nn.Conv2d,
        rank: int,
        svd: Driver = truncated_svd,
        *,
        folding: Folding = "spatial",
        split: Split = "balanced",
    ) -> "LowRankConv2d":
        """The pair whose kernel is nearest to that of ``conv``, which stays as it is.

        Args and errors as in :class:`LowRankConv2d` and
        :meth:`svdbench.lowrank.LowRankLinear.from_linear`.
        """
        layer = cls(conv, rank, folding)
        out, channels, h, w = conv.weight.shape
        if folding == "spatial":
            matrix = conv.weight.permute(0, 3, 1, 2).reshape(out * w, channels * h)
            W1, W2 = two_factors(matrix, rank, svd, split)
            layer.second.weight.copy_(W1.reshape(out, 1, w, rank).permute(0, 3, 1, 2))
            layer.first.weight.copy_(W2.reshape(rank, channels, h, 1))
        else:
            W1, W2 = two_factors(conv.weight.flatten(1), rank, svd, split)
            layer.second.weight.copy_(W1.reshape(out, rank, 1, 1))
            layer.first.weight.copy_(W2.reshape(rank, channels, h, w))
        if conv.bias is not None and layer.second.bias is not None:
            layer.second.bias.copy_(conv.bias)
        return layer

    @torch.no_grad()
    def to_conv(self) -> nn.Conv2d:
        """A ``torch.nn.Conv2d`` with the same kernel and bias, no longer tied to this layer."""
        first, second = self.first, self.second
        options: dict[str, Any] = {name: getattr(first, name) for name in NOTHING}
        if self.folding == "spatial":
            for name, value in options.items():
                if not isinstance(value, str):
                    options[name] = value[0], getattr(second, name)[1]
        conv = nn.Conv2d(
            first.in_channels,
            second.out_channels,
            bias=second.bias is not None,
            padding_mode=first.padding_mode,
            device=first.weight.device,
            dtype=first.weight.dtype,
            **options,
        )
        conv.weight.copy_(self.weight)
        if conv.bias is not None and second.bias is not None:
            conv.bias.copy_(second.bias)
        return conv

    @staticmethod
    def product(second: Tensor, first: Tensor) -> Tensor:
        """The dense kernel (out, in, h, w) that two make, linear in each of them."""
        if second.shape[-1] == 1:  # 1×1, or of a kernel that has no width
            return torch.einsum("orxy,rchw->ochw", second, first)
        return torch.einsum("orxw,rchy->ochw", second, first)

    @property
    def weight(self) -> Tensor:
        """The dense kernel, made each time it is asked for."""
        return self.product(self.second.weight, self.first.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return y

    def extra_repr(self) -> str:
        return f"rank={self.rank}, folding={self.folding}"


def folded_shape(conv: nn.Conv2d, folding: Folding = "spatial") -> tuple[int, int]:
    """The rows and columns of a convolution's kernel as the matrix that is factored.

    Raises:
        ValueError: a convolution in groups, or an unknown folding.
    """
    if conv.groups > 1:
        raise ValueError(
            f"a convolution in {conv.groups} groups is already block-diagonal: leave it dense"
        )
    h, w = conv.kernel_size
    match folding:
        case "spatial":
            return conv.out_channels * w, conv.in_channels * h
        case "channel":
            return conv.out_channels, conv.in_channels * h * w
    raise ValueError(f"no folding is called {folding!r}: choose spatial or channel")


def _along(conv: nn.Conv2d, axis: int) -> dict[str, Any]:
    """What a convolution does along one axis alone, as the options of another one."""
    options: dict[str, Any] = {}
    for name, nothing in NOTHING.items():
        value = getattr(conv, name)
        if not isinstance(value, str):  # padding may be "same"
            value = (value[0], nothing) if axis == 0 else (nothing, value[1])
        options[name] = value
    return options

"""``LowRankLinear``: a linear layer whose weight is a product of two thin matrices."""

from collections.abc import Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from svdbench.arguments import integer
from svdbench.lowrank.drivers.base import Driver
from svdbench.lowrank.drivers.truncated import truncated_svd
from svdbench.lowrank.layers.base import Factors, Folding, LowRankMatrix, Split, check_rank, shifted

_ALIGNED = 8  # numbers that a row of W₂x should have a multiple of
_MANY = 256  # rows of x from which on it is padded to that


class LowRankLinear(LowRankMatrix):
    """A linear layer of low rank: y = W₁ (W₂ x) + b.

    W₁ is (out_features, rank) and W₂ (rank, in_features).

    Takes rank·(in + out) multiplications per row of x instead of in·out, which is less for
    rank < in·out/(in + out): see :meth:`saves`. The bias is the same as in ``torch.nn.Linear``.

    W is initialised with the variance that ``torch.nn.Linear`` gives it, 1/(3·in_features).

    Args:
        in_features, out_features: sizes of x (..., in_features) and y (..., out_features).
        rank: largest rank of W₁W₂, 1 … min(in_features, out_features).
        bias: whether to add b.

    Raises:
        ValueError: sizes below 1, or a rank out of range.

    Example:
        >>> layer = LowRankLinear.from_linear(torch.nn.Linear(64, 32), rank=4)
        >>> layer(torch.randn(5, 64)).shape
        torch.Size([5, 32])

    Sources: Xue, Li, Gong, "Restructuring of deep neural network acoustic models with
    singular value decomposition", Interspeech 2013; Cai, Ke, Xu, Su, "Fast learning of deep
    neural networks via singular value decomposition", PRICAI 2014.
    """

    pads = True  # whether zeros may be multiplied with, where that is faster

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        bias: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        in_features = integer("in_features", in_features, 1)
        out_features = integer("out_features", out_features, 1)
        rank = check_rank(rank, out_features, in_features)
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        place = {"device": device, "dtype": dtype}
        self.W1 = nn.Parameter(torch.empty(out_features, rank, **place))
        self.W2 = nn.Parameter(torch.empty(rank, in_features, **place))
        self.bias = nn.Parameter(torch.empty(out_features, **place)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new W₁, W₂ and b."""
        bound = self.in_features**-0.5
        nn.init.uniform_(self.W1, -((3 / self.rank) ** 0.5), (3 / self.rank) ** 0.5)
        nn.init.uniform_(self.W2, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    @classmethod
    def from_linear(
        cls, linear: nn.Linear, rank: int, svd: Driver = truncated_svd, *, split: Split = "balanced"
    ) -> Self:
        """The layer of that rank nearest to ``linear`` (Eckart and Young 1936).

        Args:
            linear: the dense layer; it is not changed.
            rank: rank of the new layer.
            svd: function (A, k) ↦ (U, S, Vh).
            split: where the singular values go: √Σ into each factor, all of them into W₁ ("left"),
                or all into W₂ ("right"). The product is the same; only when balanced do both
                factors learn equally fast.

        Raises:
            ValueError: a rank out of range.
        """
        return cls._nearest(linear, linear.weight, rank, svd, split)

    @classmethod
    def sharing(
        cls, dense: nn.Linear, factors: Mapping[str, Factors], folding: Folding = "spatial"
    ) -> Self:
        W1, W2, shift = factors["weight"]
        has_bias = dense.bias is not None
        layer = cls(dense.in_features, dense.out_features, W1.shape[1], has_bias, device="meta")
        layer.W1, layer.W2 = W1, W2
        layer.bias = shifted(dense.bias, shift)
        return layer.train(dense.training)

    @torch.no_grad()
    def to_linear(self) -> nn.Linear:
        """A ``torch.nn.Linear`` with W = W₁W₂ and a copy of b."""
        place: dict[str, Any] = {"device": self.W1.device, "dtype": self.W1.dtype}
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, **place)
        linear.weight.copy_(self.weight)
        if self.bias is not None:
            linear.bias.copy_(self.bias)
        return linear

    to_dense = to_linear

    @staticmethod
    def saves(in_features: int, out_features: int, rank: int) -> bool:
        """Whether the two factors have fewer parameters than the matrix: rank < mn/(m + n)."""
        return rank * (in_features + out_features) < in_features * out_features

    def forward(self, x: Tensor) -> Tensor:
        missing = -self.rank % _ALIGNED
        if not (missing and self._trains_on_many(x)):
            return F.linear(F.linear(x, self.W2), self.W1, self.bias)
        W1, W2 = F.pad(self.W1, (0, missing)), F.pad(self.W2, (0, 0, 0, missing))
        return F.linear(F.linear(x, W2), W1, self.bias)

    def _trains_on_many(self, x: Tensor) -> bool:
        """Whether padding W₁ and W₂ costs less than it saves.

        On a CPU MKL multiplies rows of 160 numbers, forward and backward, 5 to 10 % faster than
        rows of 154, which don't all begin on 32 bytes. The columns W₂xᵀ are faster still in one
        process and a third slower in the next.
        """
        return (
            self.pads
            and torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and x.device.type == "cpu"
            and x.numel() >= _MANY * self.in_features
        )

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"rank={self.rank}, bias={self.bias is not None}"
        )


class LowRankTransposedLinear(LowRankLinear):
    """Like :class:`LowRankLinear`, made from the ``Conv1D`` of transformers.

    That is a linear layer whose weight is stored as (in_features, out_features), as GPT-2 has it.
    """

    dense_class: type[nn.Module]

    @staticmethod
    def product(W1: Tensor, W2: Tensor) -> Tensor:
        return (W1 @ W2).mT

    @classmethod
    def sharing(
        cls, dense: Any, factors: Mapping[str, Factors], folding: Folding = "spatial"
    ) -> Self:
        W1, W2, shift = factors["weight"]
        layer = cls(dense.nx, dense.nf, W1.shape[1], device="meta")
        layer.W1, layer.W2, layer.dense_class = W1, W2, type(dense)
        layer.bias = shifted(dense.bias, shift)
        return layer.train(dense.training)

    @torch.no_grad()
    def to_linear(self) -> nn.Linear:
        linear = nn.Linear(self.in_features, self.out_features, device="meta")
        linear.weight = nn.Parameter(self.weight.mT.contiguous())
        assert self.bias is not None
        linear.bias = nn.Parameter(self.bias.clone())
        return linear

    @torch.no_grad()
    def to_dense(self) -> nn.Module:  # type: ignore[override]
        """The equivalent ``Conv1D``, with weights of its own."""
        dense: Any = self.dense_class(self.out_features, self.in_features)
        dense.weight = nn.Parameter(self.weight.contiguous())
        assert self.bias is not None
        dense.bias = nn.Parameter(self.bias.clone())
        return dense

"""``LowRankEmbedding``: a table of few columns, and a matrix that expands them."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from svdbench.arguments import integer
from svdbench.lowrank.drivers.base import Driver
from svdbench.lowrank.drivers.truncated import truncated_svd
from svdbench.lowrank.layers.base import Factors, Folding, LowRankMatrix, Split, check_rank


class LowRankEmbedding(LowRankMatrix):
    """An embedding of low rank: token t ↦ W₁[t] W₂.

    W₁ is (num_embeddings, rank) and W₂ (rank, embedding_dim).

    The table has the shape of ``nn.Embedding.weight``, so that a linear layer tied to it can share
    the factors.

    Args:
        num_embeddings, embedding_dim, padding_idx: as in ``nn.Embedding``.
        rank: largest rank of W₁W₂, 1 … min(num_embeddings, embedding_dim).

    Raises:
        ValueError: a rank out of range.

    Example:
        >>> table = LowRankEmbedding(1000, 64, rank=8)
        >>> table(torch.tensor([3, 5])).shape
        torch.Size([2, 64])

    Source: Lan et al., "ALBERT: a lite BERT", ICLR 2020, for the factored table.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        rank: int,
        padding_idx: int | None = None,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        num_embeddings = integer("num_embeddings", num_embeddings, 1)
        embedding_dim = integer("embedding_dim", embedding_dim, 1)
        rank = check_rank(rank, num_embeddings, embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.rank, self.padding_idx = rank, padding_idx
        place = {"device": device, "dtype": dtype}
        self.W1 = nn.Parameter(torch.empty(num_embeddings, rank, **place))
        self.W2 = nn.Parameter(torch.empty(rank, embedding_dim, **place))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new W₁ and W₂ whose product has variance 1, as in ``nn.Embedding``."""
        if self.W1.is_meta:
            return
        nn.init.normal_(self.W1)
        nn.init.normal_(self.W2, std=self.rank**-0.5)
        if self.padding_idx is not None:
            self.W1[self.padding_idx] = 0

    @classmethod
    def from_embedding(
        cls,
        embedding: nn.Embedding,
        rank: int,
        svd: Driver = truncated_svd,
        *,
        split: Split = "balanced",
    ) -> Self:
        """The embedding of that rank nearest to ``embedding``, which is not changed.

        Args and errors as in :meth:`svdbench.lowrank.LowRankLinear.from_linear`.
        """
        return cls._nearest(embedding, embedding.weight, rank, svd, split)

    @classmethod
    def sharing(
        cls, dense: nn.Embedding, factors: Mapping[str, Factors], folding: Folding = "spatial"
    ) -> Self:
        W1, W2, _ = factors["weight"]
        rows, columns = dense.weight.shape
        layer = cls(rows, columns, W1.shape[1], dense.padding_idx, device="meta")
        layer.W1, layer.W2 = W1, W2
        return layer.train(dense.training)

    @torch.no_grad()
    def to_embedding(self) -> nn.Embedding:
        """A ``torch.nn.Embedding`` whose table is the product W₁W₂."""
        return nn.Embedding.from_pretrained(
            self.weight, freeze=not self.W1.requires_grad, padding_idx=self.padding_idx
        )

    to_dense = to_embedding

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.W1, self.padding_idx) @ self.W2

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}, rank={self.rank}"

"""DeltaNet and DeltaProduct: a matrix state that is corrected along keys of the input."""

from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from svdbench.arguments import check_whole
from svdbench.nn.delta_rule import delta_rule

from .blocks import BlockModel, BlockOptions, Mixer


class DeltaMixer(Mixer):
    """S ← S(I − β_j k_j k_jᵀ) + β_j v_j k_jᵀ for j = 1 … n_h, o = S q, in heads side by side.

    k_j and q are linear in u and normalised; v_j is linear in u, and β_j a multiple of a sigmoid.
    With c heads there are d(c(n_h + 1)d_k + c n_h + n_h d) + c n_h parameters; without writes there
    are n_h d² fewer, and d_k d more for the initial state.

    Args:
        d: width; a head has d/c rows of S.
        heads: c.
        key_size: d_k.
        reflectors: n_h, corrections per step.
        beta: the largest β. Up to 1, eigenvalues stay non-negative; up to 2, they go down to −1,
            which state tracking needs.
        beta_bias: initial bias of the sigmoid in β.
        writes: whether values are written to S; otherwise the initial S is learnt.

    Raises:
        ValueError: a size that is not a positive whole number, heads that don't divide d, or a β
            that is neither 1 nor 2.
    """

    def __init__(
        self,
        d: int,
        heads: int,
        key_size: int,
        reflectors: int,
        beta: float,
        beta_bias: float,
        writes: bool,
    ) -> None:
        super().__init__()
        check_whole(1, heads=heads, key_size=key_size, reflectors=reflectors)
        if d % heads:
            raise ValueError(f"heads is {heads}: give a divisor of hidden_size = {d}")
        if beta not in (1, 2):
            raise ValueError(f"beta is {beta}: give 1 or 2")
        self.heads, self.beta, self.beta_bias, self.writes = heads, beta, beta_bias, writes
        self.state_size = d * key_size
        keys, values = heads * reflectors * key_size, reflectors * d if writes else 0
        self.sizes = keys, values, heads * reflectors, heads * key_size
        self.shape = heads, key_size, d // heads
        self.inputs = nn.Linear(d, sum(self.sizes), bias=False)
        self.bias = nn.Parameter(torch.empty(heads * reflectors))
        self.first = None if writes else nn.Parameter(torch.empty(self.shape))
        self._reset_start()

    def reset_parameters(self) -> None:
        self.inputs.reset_parameters()
        self._reset_start()

    def _reset_start(self) -> None:
        nn.init.constant_(self.bias, self.beta_bias)
        if self.first is not None:
            nn.init.normal_(self.first)

    def forward(self, u: Tensor, h0: Tensor | None = None) -> Tensor:
        return self._run(u, h0, None)[0]

    def states(self, u: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outputs, states = self._run(u, h0, 1)
        return outputs, states.reshape(*u.shape[:2], self.state_size)

    def _run(self, u: Tensor, h0: Tensor | None, chunk: int | None) -> tuple[Tensor, Tensor]:
        T, B, d = u.shape
        heads, key_size, rows = self.shape
        parts = self.inputs(u).split(self.sizes, -1)
        # (T, B·c, …): a head is a sequence of its own.
        keys, values, beta, queries = (
            part.reshape(T, B * heads, size // heads)
            for part, size in zip(parts, self.sizes, strict=True)
        )
        k = F.normalize(keys.unflatten(-1, (-1, key_size)), dim=-1)
        v = values.unflatten(-1, (-1, rows)) if self.writes else None
        b = self.beta * torch.sigmoid(beta + self.bias.view(heads, -1).repeat(B, 1))
        if h0 is not None:
            first = h0.reshape(B * heads, key_size, rows)
        elif self.first is not None:
            first = self.first.repeat(B, 1, 1)
        else:
            first = u.new_zeros(B * heads, key_size, rows)
        o, states = delta_rule(k, v, b, F.normalize(queries, dim=-1), first, chunk=chunk)
        return o.reshape(T, B, d), states

    def expected_parameters(self) -> int:
        heads, key_size, rows = self.shape
        d, reflectors = heads * rows, len(self.bias) // heads
        inputs = heads * (reflectors + 1) * key_size + heads * reflectors
        given = reflectors * d * d if self.writes else key_size * d
        return d * inputs + given + heads * reflectors


class DeltaProduct(BlockModel):
    """Blocks of DeltaProduct: n_h delta-rule corrections per input step, with β up to 2.

    With β = 2 each is a reflector, and n_h of them represent any permutation group whose elements
    are products of at most n_h transpositions: 4 for S₅.

    Args:
        layers: L, blocks.
        heads: matrices S side by side; each has ``hidden_size``/heads rows.
        key_size: d_k, columns of S.
        reflectors: n_h, corrections per step.
        beta: the largest β, 1 or 2; above 1, eigenvalues become negative.
        beta_bias: initial bias of the sigmoid in β; 6 starts with β close to the largest.
        writes: whether values are written to S; otherwise the initial S is learnt.

    Raises:
        ValueError: a size that is not a positive whole number, heads that don't divide the width,
            or a β that is neither 1 nor 2.

    Sources: Siems et al., DeltaProduct, 2025, arXiv 2502.10297; β up to 2: Grazzi et al.,
    Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues, 2024, arXiv 2411.12537.
    """

    name = "deltaproduct"
    source = "Siems et al., DeltaProduct, 2025, arXiv 2502.10297"

    def __init__(
        self,
        *,
        heads: int = 1,
        key_size: int = 16,
        reflectors: int = 2,
        beta: float = 2.0,
        beta_bias: float = 0.0,
        writes: bool = True,
        **shared: Unpack[BlockOptions],
    ) -> None:
        def mixer(d: int) -> Mixer:
            return DeltaMixer(d, heads, key_size, reflectors, beta, beta_bias, writes)

        super().__init__(mixer, **shared)


class DeltaNet(DeltaProduct):
    """Blocks of DeltaNet: S ← S(I − β k kᵀ) + β v kᵀ, o = S q, with β from 0 to 1.

    Args:
        layers: L, blocks.
        heads: matrices S side by side; each has ``hidden_size``/heads rows.
        key_size: d_k, columns of S.

    Raises:
        ValueError: a size that is not a positive whole number, or heads that don't divide the
            width.
    """

    name = "deltanet"
    source = (
        "Yang et al., Parallelizing Linear Transformers with the Delta Rule over Sequence Length, "
        "NeurIPS 2024, arXiv 2406.06484"
    )

    def __init__(
        self, *, heads: int = 1, key_size: int = 16, **shared: Unpack[BlockOptions]
    ) -> None:
        super().__init__(heads=heads, key_size=key_size, reflectors=1, beta=1, **shared)

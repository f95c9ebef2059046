"""A linear network whose transition is a product of reflectors that depend on the input."""

from typing import Any, Unpack

import torch
from torch import Tensor, nn

from svdbench.arguments import check_whole
from svdbench.errors import refuse_second_derivative
from svdbench.kernels import apply_reflectors

from .base import ModelSizes, SequenceModel


class ReflectorRNN(SequenceModel):
    """h_t = H(A_1 x_t) ⋯ H(A_m x_t) h_{t−1} on c vectors of each head, with a linear readout.

    H(v) = I − 2 v vᵀ/‖v‖². The transition can be any orthogonal matrix Q with rank(Q − I) ≤ m, so m
    reflectors represent any permutation group whose elements are products of at most m
    transpositions: 4 for S₅. This is DeltaProduct with β = 2 and without writes. There are
    heads·n·(m·n_i + c) parameters, and those of the readout.

    Each head learns a representation of the group, and some representations need a higher rank: the
    irreducible one of S₅ of dimension 6 needs rank 5 for its elements of order 4 and 6. A head that
    has learnt such a representation keeps it; of several heads, one suitable head is enough.

    Args:
        hidden_size: n, the size of each of the c vectors.
        reflectors: m, reflectors per step.
        copies: c, vectors per head, each with its own learnt initial value.
        heads: independent networks of this kind that share the readout.

    Raises:
        ValueError: a size that is not a positive whole number.

    Sources: Siems et al., DeltaProduct, 2025, arXiv 2502.10297; Grazzi et al., Unlocking
    State-Tracking in Linear RNNs Through Negative Eigenvalues, 2024, arXiv 2411.12537.
    """

    name = "reflector_rnn"
    kind = "linear"
    source = "Siems et al., DeltaProduct, 2025, arXiv 2502.10297, with β = 2 and no writes"

    def __init__(
        self,
        *,
        reflectors: int = 4,
        copies: int = 3,
        heads: int = 4,
        **shared: Unpack[ModelSizes],
    ) -> None:
        check_whole(1, reflectors=reflectors, copies=copies, heads=heads)
        self.numbers_per_unit = heads * copies
        super().__init__(**shared)
        n = self.hidden_size
        self.reflectors, self.copies, self.heads = reflectors, copies, heads
        self.directions = nn.Linear(self.input_size, heads * reflectors * n, bias=False)
        self.h0 = nn.Parameter(torch.empty(heads, copies, n))
        self._reset_directions()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self._reset_directions()

    def _reset_directions(self) -> None:
        nn.init.normal_(self.directions.weight)
        nn.init.normal_(self.h0)

    def transitions(self, x: Tensor) -> Tensor:
        """The product of the reflectors of each step and head, (T, B, heads, n, n)."""
        V = self.directions(x).unflatten(-1, (self.heads, self.reflectors, self.hidden_size))
        eye = torch.eye(self.hidden_size, dtype=V.dtype, device=V.device)
        return apply_reflectors(V.flatten(0, 2), eye).unflatten(0, V.shape[:3])

    def states(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        first = self._first(x, h0).flatten(0, 1)
        states: Tensor = _Products.apply(self.transitions(x).flatten(1, 2), first)
        return states.mT.unflatten(1, (-1, self.heads)).flatten(2)

    def unrolled(self, x: Tensor, h0: Tensor | None = None) -> list[Tensor]:
        h, states = self._first(x, h0).mT.flatten(1), []
        for Q in self.transitions(x).unbind(0):
            h = (self._columns(h).mT @ Q.mT).flatten(1)
            states.append(h)
        return states

    def _first(self, x: Tensor, h0: Tensor | None) -> Tensor:
        """The vectors before the first step as columns (B, heads, n, c)."""
        if h0 is not None:
            return self._columns(h0)
        return self.h0.mT.expand(x.shape[1], -1, -1, -1)

    def _columns(self, h: Tensor) -> Tensor:
        return h.unflatten(-1, (self.heads, self.copies, self.hidden_size)).mT

    def expected_parameters(self) -> int:
        n = self.hidden_size
        own = self.heads * n * (self.reflectors * self.input_size + self.copies)
        return own + self.readout_parameters()


class _Products(torch.autograd.Function):
    """All H_t = Q_t H_{t−1}, (T, B, n, c), for Q (T, B, n, n) and H_0 (B, n, c).

    The gradients δ_t = g_t + Q_{t+1}ᵀ δ_{t+1} at the H_t are one loop; those of all Q are then one
    batched product.
    """

    @staticmethod
    def forward(ctx: Any, Q: Tensor, first: Tensor) -> Tensor:
        H = Q.new_empty(len(Q), *first.shape)
        before = first
        for step, after in zip(Q.unbind(), H.unbind(), strict=True):
            before = torch.bmm(step, before, out=after)
        ctx.save_for_backward(Q, first, H)
        return H

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        refuse_second_derivative("reflector_rnn")
        Q, first, H = ctx.saved_tensors
        delta = gradients[0].clone(memory_format=torch.contiguous_format)
        rows = delta.unbind()
        for t in range(len(Q) - 1, 0, -1):
            rows[t - 1].baddbmm_(Q[t].mT, rows[t])
        before = torch.cat([first.unsqueeze(0), H[:-1]])
        return delta @ before.mT, torch.bmm(Q[0].mT, rows[0])

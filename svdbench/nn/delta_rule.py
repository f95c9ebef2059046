"""``delta_rule``: a matrix state that every step corrects along keys, in chunks of steps.

With keys k_j, values v_j and coefficients β_j, so many of them to a step,

    S_j = S_{j−1} (I − β_j k_j k_jᵀ) + β_j v_j k_jᵀ,    o_t = S q_t after those of step t.

Over a chunk with keys K and values V as rows, and H = Sᵀ before it, the product of the reflectors
is I − KᵀTK, T from the UT transform (:mod:`svdbench.kernels.ut`), and with W = TᵀK

    U = TᵀV − W H,    H' = (I − KᵀW) H + Kᵀ TᵀV,    O = Q H + M U,    M = Q Kᵀ up to each step.

Only H' goes from chunk to chunk, by a loop; all else is one batched product over all chunks. The
gradient is of the same form: with G at O, Γ at H' and G_U = MᵀG

    Γ_before = (I − KᵀW)ᵀ Γ + QᵀG − WᵀG_U,    Y = T (G_U + K Γ),

from which those at K, V, β and Q follow, as in :mod:`svdbench.kernels.wy`. T comes by
substitution: powers of its nilpotent part, which doubling sums, cancel where keys are equal and
β is 2.

Sources: Yang et al., Parallelizing Linear Transformers with the Delta Rule over Sequence Length,
NeurIPS 2024, arXiv 2406.06484; Siems et al., DeltaProduct, 2025, arXiv 2502.10297.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from svdbench.kernels.ut import half_triangle, scaled_factors

# Reflectors to a chunk, about. Of sizes from 8 to 64, 16 or 32 were the fastest on a CPU.
CHUNK = 24


def delta_rule(
    keys: Tensor,
    values: Tensor | None,
    beta: Tensor,
    queries: Tensor,
    first: Tensor,
    *,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """All o_t = S_t q_t, and the state after the last step of every chunk.

    Differentiable once, in all arguments; a second derivative is refused.

    Args:
        keys: k (T, Z, r, d_k): r reflectors in each of T steps, for Z sequences. Of length 1 they
            are orthogonal where β is 2, and let no state grow where β is from 0 to 2.
        values: v (T, Z, r, d_v); None writes nothing, as if all of them were zero.
        beta: coefficients (T, Z, r).
        queries: q (T, Z, d_k).
        first: Sᵀ before the first step, (Z, d_k, d_v).
        chunk: steps to a chunk; by default as many as make about 24 reflectors.

    Returns:
        o (T, Z, d_v), and Sᵀ after each chunk, (⌈T/chunk⌉, Z, d_k, d_v).

    Raises:
        ValueError: shapes that don't fit.

    Example:
        >>> k, v, q = (torch.randn(100, 8, *shape) for shape in ((2, 16), (2, 16), (16,)))
        >>> k = torch.nn.functional.normalize(k, dim=-1)
        >>> delta_rule(k, v, torch.ones(100, 8, 2), q, torch.zeros(8, 16, 16))[0].shape
        torch.Size([100, 8, 16])
    """
    T, Z, r, d_k = keys.shape
    shapes = {
        "values": (values, (T, Z, r, first.shape[-1])),
        "beta": (beta, (T, Z, r)),
        "queries": (queries, (T, Z, d_k)),
        "first": (first, (Z, d_k, first.shape[-1])),
    }
    for name, (tensor, wanted) in shapes.items():
        if tensor is not None and tensor.shape != wanted:
            raise ValueError(
                f"keys of shape {tuple(keys.shape)} need {name} of shape {wanted}, "
                f"not {tuple(tensor.shape)}"
            )
    chunk = max(1, CHUNK // r) if chunk is None else chunk
    chunk = min(chunk, T)
    K, b = (_in_chunks(t, chunk).flatten(2, 3) for t in (keys, beta))
    V = None if values is None else _in_chunks(values, chunk).flatten(2, 3)
    Q = _in_chunks(queries, chunk)
    O, states = _DeltaRule.apply(K, V, b, Q, first, r)
    return O.transpose(1, 2).flatten(0, 1)[:T], states


def _in_chunks(rows: Tensor, chunk: int) -> Tensor:
    """(T, Z, …) as (chunks, Z, chunk, …), filled with zeros, which change nothing."""
    T = len(rows)
    chunks = -(-T // chunk)
    if chunks * chunk > T:
        rows = torch.cat([rows, rows.new_zeros(chunks * chunk - T, *rows.shape[1:])])
    return rows.unflatten(0, (chunks, chunk)).transpose(1, 2)


class _DeltaRule(torch.autograd.Function):
    """Of N chunks: K (N, Z, R, d_k), V (N, Z, R, d_v), β (N, Z, R), Q (N, Z, C, d_k), H (Z, …)."""

    @staticmethod
    def forward(
        ctx: Any, K: Tensor, V: Tensor | None, beta: Tensor, Q: Tensor, first: Tensor, r: int
    ) -> tuple[Tensor, Tensor]:
        N, Z, R, d_k = K.shape
        C, d_v = Q.shape[2], first.shape[-1]
        # Keys and values side by side, so that one product serves both.
        KV = torch.cat([K] if V is None else [K, V], -1).flatten(0, 1)
        K, Q, b = KV[..., :d_k], Q.reshape(N * Z, C, d_k), beta.reshape(N * Z, R)
        T, S = scaled_factors(K, b)
        WU = torch.bmm(T.mT, KV)
        W = WU[..., :d_k]
        moved = torch.bmm(K.mT, WU)
        steps = (torch.eye(d_k, dtype=K.dtype, device=K.device) - moved[..., :d_k]).view(
            N, Z, d_k, d_k
        )
        H = K.new_empty(N + 1, Z, d_k, d_v)
        H[0].copy_(first)
        states = H.unbind()
        if V is None:
            for t, step in enumerate(steps.unbind()):
                torch.bmm(step, states[t], out=states[t + 1])
        else:
            written = moved[..., d_k:].view(N, Z, d_k, d_v).unbind()
            for t, step in enumerate(steps.unbind()):
                torch.baddbmm(written[t], step, states[t], out=states[t + 1])
        before = H[:-1].view(N * Z, d_k, d_v)
        if V is None:
            U = torch.bmm(W, before).neg_()
        else:
            U = torch.baddbmm(WU[..., d_k:], W, before, alpha=-1)
        M = torch.bmm(Q, K.mT).mul_(_reach(C, r, K.dtype, K.device))
        O = torch.bmm(Q, before).baddbmm_(M, U)
        ctx.save_for_backward(KV, Q, T, S, WU, steps, H, U, M)
        ctx.r, ctx.writes = r, V is not None
        return O.view(N, Z, C, d_v), H[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor, at_states: Tensor) -> tuple[Any, ...]:
        KV, Q, T, S, WU, steps, H, U, M = ctx.saved_tensors
        N, Z, d_k, _ = steps.shape
        K, W = KV[..., :d_k], WU[..., :d_k]
        R, d_v = K.shape[1], H.shape[-1]
        C = Q.shape[1]
        G = G.reshape(N * Z, C, d_v)
        before = H[:-1].view(N * Z, d_k, d_v)
        GU = torch.bmm(M.mT, G)
        gamma = torch.bmm(Q.mT, G).baddbmm_(W.mT, GU, alpha=-1).view(N, Z, d_k, d_v)
        # Γ after each chunk, from the last to the first, and at the start.
        after = torch.empty_like(H)
        rows, given, matrices = after.unbind(), at_states.unbind(), steps.mT.unbind()
        rows[N].copy_(given[N - 1])
        for t in range(N - 1, -1, -1):
            torch.baddbmm(gamma[t], matrices[t], rows[t + 1], out=rows[t])
            if t:
                rows[t].add_(given[t - 1])
        ends = after[1:].view(N * Z, d_k, d_v)
        GU.baddbmm_(K, ends)
        Y = torch.bmm(T, GU)
        reach = _reach(C, ctx.r, K.dtype, K.device)
        GM = torch.bmm(G, U.mT).mul_(reach)
        dQ = torch.bmm(G, before.mT).baddbmm_(GM, K)
        # β: through U = β (V − K H − N'U) with N' the rows of earlier reflectors.
        rest = torch.bmm(K, before).neg_()
        if ctx.writes:
            rest += KV[..., d_k:]
        rest.baddbmm_(S.mT, U, alpha=-1)
        direct = torch.baddbmm(GU, S, Y, alpha=-1)
        dbeta = (rest * direct).sum(-1)
        D = torch.bmm(Y, U.mT).mul_(half_triangle(R, True, 0, K.dtype, K.device))
        D = D + D.mT
        dK = torch.bmm(GM.mT, Q).baddbmm_(U, ends.mT).baddbmm_(Y, before.mT, alpha=-1)
        dK.baddbmm_(D, K, alpha=-1)
        return (
            dK.view(N, Z, R, d_k),
            Y.view(N, Z, R, d_v) if ctx.writes else None,
            dbeta.view(N, Z, R),
            dQ.view(N, Z, C, d_k),
            rows[0],
            None,
        )


def _reach(C: int, r: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Ones where a reflector is of a step or of one before it, (C, C r)."""
    steps = torch.ones(C, C, dtype=dtype, device=device).tril()
    return steps.repeat_interleave(r, -1)

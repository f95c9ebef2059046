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

from svdbench.kernels.ut import half_triangle, scaled_factors

# Reflectors to a chunk, about. Of sizes from 8 to 64, 16 and 32 were the fastest on a CPU.
CHUNK = 16

# Coefficients above this may be divided by, which saves three of seventeen products.
LEAST = 1e-12


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
        chunk: steps to a chunk; by default as many as make about 16 reflectors.

    Returns:
        o (T, Z, d_v), and Sᵀ after each chunk, (⌈T/chunk⌉, Z, d_k, d_v).

    Raises:
        ValueError: shapes that don't fit.
        RuntimeError: in the backward pass, if it is to be differentiated itself.

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
    chunk = min(max(1, CHUNK // r) if chunk is None else chunk, T)
    outputs, states = _DeltaRule.apply(keys, values, beta, queries, first, chunk)
    return outputs, states


class _DeltaRule(torch.autograd.Function):
    """Inside, N chunks of C steps with R = C r reflectors come first, together with Z."""

    @staticmethod
    def forward(
        ctx: Any,
        keys: Tensor,
        values: Tensor | None,
        beta: Tensor,
        queries: Tensor,
        first: Tensor,
        C: int,
    ) -> tuple[Tensor, Tensor]:
        T, Z, r, d_k = keys.shape
        N, d_v = -(-T // C), first.shape[-1]
        # Keys and values side by side, so that one product serves both.
        KV = _in_chunks([keys] if values is None else [keys, values], C, 0).flatten(1, 2)
        Q = _in_chunks([queries], C, 0)
        b = _in_chunks([beta.unsqueeze(-1)], C, 1).flatten(1)
        K = KV[..., :d_k]
        UT, S = scaled_factors(K, b)
        WU = torch.bmm(UT.mT, KV)
        W = WU[..., :d_k]
        moved = torch.bmm(K.mT, WU)
        steps = torch.eye(d_k, dtype=K.dtype, device=K.device) - moved[..., :d_k]
        steps = steps.view(N, Z, d_k, d_k)
        H = K.new_empty(N + 1, Z, d_k, d_v)
        H[0].copy_(first)
        states = H.unbind()
        if values is None:
            for t, step in enumerate(steps.unbind()):
                torch.bmm(step, states[t], out=states[t + 1])
        else:
            written = moved[..., d_k:].view(N, Z, d_k, d_v).unbind()
            for t, step in enumerate(steps.unbind()):
                torch.baddbmm(written[t], step, states[t], out=states[t + 1])
        before = H[:-1].view(N * Z, d_k, d_v)
        if values is None:
            U = torch.bmm(W, before).neg_()
        else:
            U = torch.baddbmm(WU[..., d_k:], W, before, alpha=-1)
        M = torch.bmm(Q, K.mT).mul_(_reach(C, r, K.dtype, K.device))
        outputs = torch.bmm(Q, before).baddbmm_(M, U)
        ctx.save_for_backward(KV, Q, b, UT, S, WU, steps, H, U, M)
        ctx.T, ctx.r, ctx.writes = T, r, values is not None
        return _in_steps(outputs, N, T), H[1:]

    @staticmethod
    def backward(ctx: Any, given: Tensor, at_states: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "delta_rule has first derivatives only: leave create_graph out, or train a model "
                "without it"
            )
        KV, Q, b, UT, S, WU, steps, H, U, M = ctx.saved_tensors
        N, Z, d_k, _ = steps.shape
        K, W = KV[..., :d_k], WU[..., :d_k]
        (_, R, d_v), C = U.shape, Q.shape[1]
        G = _in_chunks([given], C, 0)
        before = H[:-1].view(N * Z, d_k, d_v)
        GU = torch.bmm(M.mT, G)
        gamma = torch.bmm(Q.mT, G).baddbmm_(W.mT, GU, alpha=-1).view(N, Z, d_k, d_v)
        # Γ after each chunk, from the last to the first, and at the start.
        after = torch.empty_like(H)
        rows, at_end, matrices = after.unbind(), at_states.unbind(), steps.mT.unbind()
        rows[N].copy_(at_end[N - 1])
        for t in range(N - 1, -1, -1):
            torch.baddbmm(gamma[t], matrices[t], rows[t + 1], out=rows[t])
            if t:
                rows[t].add_(at_end[t - 1])
        ends = after[1:].view(N * Z, d_k, d_v)
        GU.baddbmm_(K, ends)
        Y = torch.bmm(UT, GU)
        GM = torch.bmm(G, U.mT).mul_(_reach(C, ctx.r, K.dtype, K.device))
        dQ = torch.bmm(G, before.mT).baddbmm_(GM, K)
        if K.is_cpu and bool(b.abs().amin() > LEAST):
            dbeta = (U * Y).sum(-1).div_(b * b)
        else:
            rest = torch.bmm(K, before).neg_()
            if ctx.writes:
                rest += KV[..., d_k:]
            rest.baddbmm_(S.mT, U, alpha=-1)  # U/β
            dbeta = (rest * torch.baddbmm(GU, S, Y, alpha=-1)).sum(-1)  # Y/β
        D = torch.bmm(Y, U.mT).mul_(half_triangle(R, True, 0, K.dtype, K.device))
        dK = torch.bmm(GM.mT, Q).baddbmm_(U, ends.mT).baddbmm_(Y, before.mT, alpha=-1)
        dK.baddbmm_(D + D.mT, K, alpha=-1)
        return (
            _in_steps(dK.unflatten(1, (C, ctx.r)), N, ctx.T),
            _in_steps(Y.unflatten(1, (C, ctx.r)), N, ctx.T) if ctx.writes else None,
            _in_steps(dbeta.unflatten(1, (C, ctx.r)), N, ctx.T),
            _in_steps(dQ, N, ctx.T),
            rows[0],
            None,
        )


def _in_chunks(parts: list[Tensor], C: int, fill: float) -> Tensor:
    """Parts (T, Z, …, n) side by side in chunks, (N Z, C, …, Σ n).

    Steps after the last get ``fill``: a key of zeros changes nothing.
    """
    T, Z, *middle, _ = parts[0].shape
    N = -(-T // C)
    whole = parts[0].new_empty(N, Z, C, *middle, sum(part.shape[-1] for part in parts))
    start = 0
    for part in parts:
        rows = whole[..., start : start + part.shape[-1]].transpose(1, 2)
        full = T // C
        rows[:full].copy_(part[: full * C].unflatten(0, (full, C)))
        if full < N:
            rows[full, : T - full * C].copy_(part[full * C :])
            rows[full, T - full * C :].fill_(fill)
        start += part.shape[-1]
    return whole.flatten(0, 1)


def _in_steps(rows: Tensor, N: int, T: int) -> Tensor:
    """Rows (N Z, C, …) as (T, Z, …)."""
    return rows.unflatten(0, (N, -1)).transpose(1, 2).flatten(0, 1)[:T]


def _reach(C: int, r: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Ones where a reflector is of a step or of one before it, (C, C r)."""
    steps = torch.ones(C, C, dtype=dtype, device=device).tril()
    return steps.repeat_interleave(r, -1)

"""``delta_rule``: a matrix state that every step corrects along keys, in chunks of steps.

With keys k_j, values v_j and coefficients β_j, several per step,

    S_j = S_{j−1} (I − β_j k_j k_jᵀ) + β_j v_j k_jᵀ,    o_t = S q_t after those of step t.

Over a chunk with keys K, values V and queries Q as rows, D = diag(β), N = striu(KKᵀ), M = Q Kᵀ up
to each step, and H = Sᵀ before it, the product of the reflectors is I − Kᵀ P D K with
P = (I + D N)⁻¹, the UT transform (:mod:`svdbench.kernels.ut`), and

    w = Pᵀ(V − K H),    O = Q H + M D w,    H' = H + Kᵀ D w.

The gradient is of the same form: with G at O and Γ at H'

    Y = P D (MᵀG + K Γ),    Γ_before = Γ + QᵀG − KᵀY,    dV = Y,
    dQ = G Hᵀ + E K,    dK = EᵀQ + D w Γᵀ − Y Hᵀ − (F + Fᵀ) K,

with E = G wᵀ D up to each step and F what is below the diagonal of Y wᵀ D. That at β_j is the sum
of column j of M ∘ G wᵀ, less that of Nᵀ ∘ Y wᵀ, and of row j of K ∘ w Γᵀ, which needs no division
by a coefficient that may be 0.

What holds keys alone is one batched product over all chunks. What holds values goes from chunk to
chunk, as H does: so a chunk is in the processor's cache from its first product to its last, and
nothing as large as the values is written but w, H and what is returned. On a GPU that Triton has,
the way from chunk to chunk is one launch (:mod:`svdbench.kernels.triton_delta`).

P comes by substitution: powers of N, which doubling sums, cancel where keys are equal and β is 2.

Sources: Yang et al., Parallelizing Linear Transformers with the Delta Rule over Sequence Length,
NeurIPS 2024, arXiv 2406.06484; Siems et al., DeltaProduct, 2025, arXiv 2502.10297.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from svdbench.errors import refuse_second_derivative
from svdbench.kernels.triton_support import triton_runs_on
from svdbench.kernels.ut import identity

# Reflectors to a chunk, about. Of sizes from 8 to 64, 16 and 32 were the fastest on a CPU; a tile
# of the kernels holds 16.
CHUNK = 16


def delta_rule(
    keys: Tensor,
    values: Tensor | None,
    beta: Tensor,
    queries: Tensor,
    first: Tensor,
    *,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute all o_t = S_t q_t, and the state after every chunk of steps.

    Differentiable once, in all arguments; second derivatives raise an error.

    Args:
        keys: k (T, Z, r, d_k): r reflectors in each of T steps, for Z sequences. Keys of length 1
            make orthogonal factors for β = 2, and never let the state grow for 0 ≤ β ≤ 2.
        values: v (T, Z, r, d_v); None means zeros.
        beta: coefficients (T, Z, r).
        queries: q (T, Z, d_k).
        first: Sᵀ before the first step, (Z, d_k, d_v).
        chunk: steps per chunk; by default as many as give about 16 reflectors.

    Returns:
        o (T, Z, d_v), and Sᵀ after each chunk, (⌈T/chunk⌉, Z, d_k, d_v).

    Raises:
        ValueError: shapes that don't match, no step, or a chunk below 1.
        TypeError: dtypes that differ.
        RuntimeError: for a second derivative, in the backward pass.

    Example:
        >>> k, v, q = (torch.randn(100, 8, *shape) for shape in ((2, 16), (2, 16), (16,)))
        >>> k = torch.nn.functional.normalize(k, dim=-1)
        >>> delta_rule(k, v, torch.ones(100, 8, 2), q, torch.zeros(8, 16, 16))[0].shape
        torch.Size([100, 8, 16])
    """
    if keys.ndim != 4 or not keys.shape[0] or not keys.shape[2]:
        raise ValueError(
            f"keys must be (T, Z, r, d_k) with T and r of at least 1, not {tuple(keys.shape)}"
        )
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk is {chunk}: give a number of steps from 1")
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
        if tensor is not None and tensor.dtype != keys.dtype:
            raise TypeError(f"keys are {keys.dtype} and {name} {tensor.dtype}: convert one")
    chunk = min(max(1, CHUNK // r) if chunk is None else chunk, T)
    outputs, states = _DeltaRule.apply(keys, values, beta, queries, first, chunk)
    return outputs, states


def runs_in_kernels(keys: Tensor, reflectors: int) -> bool:
    """Whether the chunks, of so many reflectors, follow one another in one launch."""
    if not (keys.is_cuda and triton_runs_on(keys.device)):
        return False
    from svdbench.kernels import triton_delta

    return triton_delta.fits(reflectors, keys.shape[-1], keys.dtype)


class _DeltaRule(torch.autograd.Function):
    """Inside, N chunks of C steps with R = C r reflectors come first, then the sequences."""

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
        T, _, r, _ = keys.shape
        # Of keys alone: all chunks at once.
        K, Q = _in_chunks(keys, C).flatten(2, 3), _in_chunks(queries, C)
        b = _in_chunks(beta, C).flatten(2, 3).unsqueeze(-1)
        gram, M = _products(K, K).triu_(1), _products(Q, K)
        M.mul_(_reach(C, r, K.dtype, K.device))
        one = identity(C * r, K.dtype, K.device).expand_as(gram)
        P = torch.linalg.solve_triangular(b * gram, one, upper=True, unitriangular=True)
        ctx.T, ctx.r, ctx.writes = T, r, values is not None
        ctx.in_kernels = runs_in_kernels(keys, C * r)
        ctx.set_materialize_grads(False)
        states = _by_operations
        if ctx.in_kernels:
            from svdbench.kernels import triton_delta

            states = triton_delta.states
        outputs, H, w = states(K, Q, P, M * b.mT, b, values, first, T, r)
        ctx.save_for_backward(K, Q, b, gram, M, P, H, w)
        return outputs, H[1:]

    @staticmethod
    def backward(ctx: Any, given: Tensor | None, at_states: Tensor | None) -> tuple[Any, ...]:
        refuse_second_derivative("delta_rule")
        K, Q, b, gram, M, P, H, w = ctx.saved_tensors
        (N, Z, R, d_v), (_, _, C, d_k) = w.shape, Q.shape
        T, r, new = ctx.T, ctx.r, K.new_empty
        if given is None:
            given = K.new_zeros(1, 1, 1).expand(T, Z, d_v)
        if ctx.in_kernels:
            saved = (K, Q, b, gram, M, P, H, w)
            return _by_kernels(saved, given, at_states, r, ctx.writes)
        dK, dQ, db = new(T, Z, r, d_k), new(T, Z, d_k), new(T, Z, r)
        dV = new(T, Z, r, d_v) if ctx.writes else None
        after, before = K.new_zeros(2, Z, d_k, d_v).unbind()  # Γ
        G, GU, Y, A = new(Z, C, d_v), new(Z, R, d_v), new(Z, R, d_v), new(Z, R, d_k)
        E, F = new(Z, C, R), new(Z, R, R)
        reach = _reach(C, r, K.dtype, K.device)
        for n in range(N - 1, -1, -1):
            k, q, m, h, left, column = K[n], Q[n], M[n], H[n], w[n], b[n]
            if at_states is not None:
                after += at_states[n]
            _fill(G, given, n)
            torch.bmm(m.mT, G, out=GU).baddbmm_(k, after)
            torch.bmm(P[n] * column.mT, GU, out=Y)
            if dV is not None:
                _put(dV, Y.view(Z, C, r, d_v), n)
            GU.baddbmm_(gram[n], Y, alpha=-1)  # Y/β, without a division
            _put(db, GU.mul_(left).sum(-1).view(Z, C, r), n)
            torch.bmm(G, left.mT, out=E).mul_(column.mT * reach)
            torch.bmm(Y, left.mT, out=F).mul_(column.mT).tril_(-1)
            _put(dQ, torch.bmm(G, h.mT).baddbmm_(E, k), n)
            torch.bmm(left, after.mT, out=A).mul_(column).baddbmm_(Y, h.mT, alpha=-1)
            A.baddbmm_(E.mT, q).baddbmm_(F + F.mT, k, alpha=-1)
            _put(dK, A.view(Z, C, r, d_k), n)
            torch.baddbmm(after, q.mT, G, out=before).baddbmm_(k.mT, Y, alpha=-1)
            after, before = before, after
        return dK, dV, db, dQ, after, None


def _by_operations(
    K: Tensor,
    Q: Tensor,
    P: Tensor,
    MD: Tensor,
    b: Tensor,
    values: Tensor | None,
    first: Tensor,
    T: int,
    r: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """What :func:`svdbench.kernels.triton_delta.states` returns, chunk by chunk."""
    (N, Z, R, d_k), C, d_v, new = K.shape, Q.shape[2], first.shape[-1], K.new_empty
    DK = K * b
    H, w = new(N + 1, Z, d_k, d_v), new(N, Z, R, d_v)
    H[0].copy_(first)
    outputs, X, O = new(T, Z, d_v), new(Z, R, d_v), new(Z, C, d_v)
    for n, (k, q, before, after, left) in enumerate(zip(K, Q, H, H[1:], w, strict=False)):
        if values is None:
            torch.baddbmm(X, k, before, beta=0, alpha=-1, out=X)
        else:
            _fill(X.view(Z, C, r, d_v), values, n)
            X.baddbmm_(k, before, alpha=-1)
        torch.bmm(P[n].mT, X, out=left)
        torch.bmm(q, before, out=O).baddbmm_(MD[n], left)
        _put(outputs, O, n)
        torch.baddbmm(before, DK[n].mT, left, out=after)
    return outputs, H, w


def _by_kernels(
    saved: tuple[Tensor, ...], given: Tensor, at_states: Tensor | None, r: int, writes: bool
) -> tuple[Tensor | None, ...]:
    """The gradients, with Y and Γ of all chunks from one launch, and the rest for all at once."""
    from svdbench.kernels import triton_delta

    K, Q, b, gram, M, P, H, w = saved
    T, C = len(given), Q.shape[2]
    Y, at = triton_delta.gradients(K, Q, P, M, b, given, at_states, r)
    first, after, before = at[0], at[1:], H[:-1]
    G = _in_chunks(given, C)
    GU = _times(M.mT, G) + _times(K, after) - _times(gram, Y)  # Y/β, without a division
    E = _products(G, w).mul_(b.mT * _reach(C, r, K.dtype, K.device))
    F = _products(Y, w).mul_(b.mT).tril_(-1)
    dQ = _products(G, before) + _times(E, K)
    dK = _products(w, after).mul_(b) - _products(Y, before)
    dK += _times(E.mT, Q) - _times(F + F.mT, K)
    steps = partial(_in_steps, T=T, C=C)
    parts = (dK, Y if writes else None, (GU * w).sum(-1))
    at_keys, at_values, at_beta = (
        None if each is None else steps(each.unflatten(2, (C, r))) for each in parts
    )
    return at_keys, at_values, at_beta, steps(dQ), first, None


def _times(left: Tensor, right: Tensor) -> Tensor:
    """Matrices (N, Z, …) times others."""
    return torch.bmm(left.flatten(0, 1), right.flatten(0, 1)).unflatten(0, left.shape[:2])


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Of rows (N, Z, …) with one another, (N, Z, rows, rows)."""
    return torch.bmm(left.flatten(0, 1), right.flatten(0, 1).mT).unflatten(0, left.shape[:2])


def _in_chunks(rows: Tensor, C: int) -> Tensor:
    """Rows (T, Z, …) as (N, Z, C, …), with zeros after the last: such a key does nothing."""
    T, Z, *rest = rows.shape
    chunks = rows.new_empty(-(-T // C), Z, C, *rest)
    full = T // C
    chunks[:full].copy_(rows[: full * C].unflatten(0, (full, C)).transpose(1, 2))
    if T % C:
        _fill(chunks[full], rows, full)
    return chunks


def _in_steps(chunks: Tensor, T: int, C: int) -> Tensor:
    """The reverse of :func:`_in_chunks`."""
    return chunks.transpose(1, 2).flatten(0, 1)[:T]


def _fill(chunk: Tensor, rows: Tensor, n: int) -> None:
    """Copy the steps of chunk n of rows (T, Z, …) to (Z, C, …), and zeros after the last."""
    C = chunk.shape[1]
    part = rows[n * C : (n + 1) * C]
    chunk[:, : len(part)].copy_(part.transpose(0, 1))
    chunk[:, len(part) :].zero_()


def _put(rows: Tensor, chunk: Tensor, n: int) -> None:
    """The reverse of :func:`_fill`."""
    C = chunk.shape[1]
    part = rows[n * C : (n + 1) * C]
    part.copy_(chunk[:, : len(part)].transpose(0, 1))


def _reach(C: int, r: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Ones where a reflector is of a step or of one before it, (C, C r)."""
    steps = torch.ones(C, C, dtype=dtype, device=device).tril()
    return steps.repeat_interleave(r, -1)

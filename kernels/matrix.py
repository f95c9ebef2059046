"""Products of reflectors with the interface of ``torch.linalg``, and as a matrix.

``householder_product`` and ``ormqr`` are torch's functions, computed in blocks of reflectors.
LAPACK stores a product of reflectors H(v₁)⋯H(vₙ), H(v) = I − τ v vᴴ, as the columns below the
diagonal of a matrix, without the ones on the diagonal, and the τ (``geqrf``). ``reflector_matrix``
builds the matrix from reflectors as rows, without multiplying an identity.
"""

from typing import Any

import torch
from torch import Tensor

from .apply import apply_reflectors, differentiable_gradients, is_eager, second_gradients_wanted
from .plans import plan_on_cpu
from .ut import ut_factors
from .wy import gram_gradient


def reflector_matrix(V: Tensor, columns: int | None = None, *, transpose: bool = False) -> Tensor:
    """The first columns of H(v₁) H(v₂) ⋯ H(vₙ), or of its conjugate transpose.

    Equal to ``apply_reflectors`` on the first columns of the identity, and a third cheaper if all
    reflectors fit into one block.

    Args:
        V: reflectors as rows, shape (n, d) or (..., n, d).
        columns: number of columns r ≤ d; by default d.
        transpose: return those of H(vₙ)ᴴ ⋯ H(v₁)ᴴ instead.

    Returns:
        (..., d, r), with orthonormal columns.

    Raises:
        ValueError: shapes that don't match.
        TypeError: V is not floating point.

    Example:
        >>> Q = reflector_matrix(torch.randn(8, 8))
        >>> bool(torch.dist(Q.T @ Q, torch.eye(8)) < 1e-5)
        True
    """
    d = V.shape[-1]
    r = d if columns is None else columns
    if not 0 <= r <= d:
        raise ValueError(f"a matrix of {d} rows has 0 to {d} orthonormal columns, not {r}")
    simple = V.ndim == 2 and V.is_cpu and is_eager(V) and r > 0 and len(V) > 0
    if simple and plan_on_cpu(len(V), d, r).block_size >= len(V):
        out: Tensor = _Matrix.apply(V, r, transpose)
        return out
    E = torch.eye(d, r, dtype=V.dtype, device=V.device)
    return apply_reflectors(V, E, transpose=transpose)


class _Matrix(torch.autograd.Function):
    """One block: I − BᴴTB, of which the first columns are wanted; see ``wy`` for the formulas."""

    @staticmethod
    def forward(ctx: Any, V: Tensor, r: int, transpose: bool) -> Tensor:
        ctx.options = r, transpose
        B, T, scale = ut_factors(V)
        Z = torch.mm(T.mT if transpose else T, B[:, :r])
        ctx.save_for_backward(V, T, Z, scale)
        out = torch.mm(B.mT, Z).neg_()
        out.diagonal().add_(1)
        return out

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Any:
        V, T, Z, scale = ctx.saved_tensors
        r, transpose = ctx.options
        if second_gradients_wanted(G):
            E = torch.eye(V.shape[1], r, dtype=V.dtype)
            needs = True, False, False
            dV, *_ = differentiable_gradients(V, E, None, G, transpose, needs)
            return dV, None, None
        B = V if scale is None else V / scale
        W = torch.mm(T if transpose else T.mT, torch.mm(B, G))
        dV = gram_gradient(B, W, Z, transpose)
        dV[:, :r].sub_(W)
        torch.addmm(dV, Z, G.mT, alpha=-1, out=dV)
        return dV if scale is None else dV.div_(scale), None, None


def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of H(v₁)⋯H(v_k), like ``torch.linalg.householder_product``.

    Args:
        A: (..., m, n), n ≤ m; column j holds v_j below the diagonal; on it, v_j is 1.
        tau: (..., k), k ≤ n.

    Returns:
        (..., m, n), with orthonormal columns if A and tau come from ``torch.geqrf``. Differentiable
        in A and tau.

    Raises:
        ValueError: shapes that don't match.
        TypeError: dtypes that differ or are not floating point.

    Example:
        >>> A, tau = torch.geqrf(torch.randn(5, 3, dtype=torch.float64))
        >>> Q = householder_product(A, tau)
        >>> bool(torch.dist(Q.mT @ Q, torch.eye(3, dtype=Q.dtype)) < 1e-12)
        True

    Source: LAPACK's ``orgqr`` and ``ungqr``; Joffrain et al., ACM TOMS 32(2), 2006.
    """
    m, n = _sizes(A, tau)
    E = torch.eye(m, n, dtype=A.dtype, device=A.device)
    return apply_reflectors(_rows(A, tau), E, tau)


def ormqr(
    input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False
) -> Tensor:
    """Q other, or other Q, with Q = H(v₁)⋯H(v_k), like ``torch.ormqr``.

    Args:
        input: (..., m, n); column j holds v_j below the diagonal; on it, v_j is 1.
        tau: (..., k), k ≤ min(m, n).
        other: (..., m, c), or (..., c, m) if not ``left``.
        left: multiply from the left.
        transpose: use Qᴴ.

    Returns:
        The product, in the shape of ``other``. Differentiable in input, tau and other.

    Raises:
        ValueError: shapes that don't match.
        TypeError: dtypes that differ or are not floating point.

    Example:
        >>> A = torch.randn(5, 3, dtype=torch.float64)
        >>> factors, tau = torch.geqrf(A)
        >>> R = ormqr(factors, tau, A, transpose=True)
        >>> bool(R.tril(-1).abs().max() < 1e-12)
        True

    Source: LAPACK's ``ormqr`` and ``unmqr``.
    """
    _sizes(input, tau)
    rows = _rows(input, tau)
    if left:
        return apply_reflectors(rows, other, tau, transpose=transpose)
    # other Q = (Qᴴ otherᴴ)ᴴ
    return apply_reflectors(rows, other.mH, tau, transpose=not transpose).mH


def _sizes(A: Tensor, tau: Tensor) -> tuple[int, int]:
    if A.ndim < 2 or tau.ndim < 1:
        raise ValueError(
            f"reflectors must be (..., m, n) and tau (..., k), not {tuple(A.shape)} and "
            f"{tuple(tau.shape)}"
        )
    m, n = A.shape[-2:]
    if tau.shape[-1] > min(m, n):
        raise ValueError(f"{m}×{n} holds {min(m, n)} reflectors, but tau has {tau.shape[-1]}")
    return m, n


def _rows(A: Tensor, tau: Tensor) -> Tensor:
    """The reflectors as rows (..., k, m), with their ones."""
    columns = A[..., : tau.shape[-1]].tril(-1)
    return (columns + torch.eye(*columns.shape[-2:], dtype=A.dtype, device=A.device)).mT

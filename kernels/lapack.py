"""``householder_product`` and ``ormqr`` with the calls of torch.linalg, by blocks of reflectors.

LAPACK stores a product of reflectors H(v₁)⋯H(vₙ), H(v) = I − τ v vᴴ, as the columns below the
diagonal of a matrix, the ones on the diagonal left out, and the τ (``geqrf``).
"""

import torch
from torch import Tensor

from .apply import apply_reflectors


def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of H(v₁)⋯H(v_k), as ``torch.linalg.householder_product``.

    Args:
        A: (..., m, n), n ≤ m; column j holds v_j below its diagonal, where v_j is 1.
        tau: (..., k), k ≤ n.

    Returns:
        (..., m, n), of orthonormal columns where A and tau come from ``torch.geqrf``.
        Differentiable in A and tau.

    Raises:
        ValueError: shapes that don't fit.
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
    """Q other, or other Q, with Q = H(v₁)⋯H(v_k), as ``torch.ormqr``.

    Args:
        input: (..., m, n); column j holds v_j below its diagonal, where v_j is 1.
        tau: (..., k), k ≤ min(m, n).
        other: (..., m, c), or (..., c, m) if not ``left``.
        left: multiply from the left.
        transpose: use Qᴴ.

    Returns:
        The product, of the shape of ``other``. Differentiable in all three.

    Raises:
        ValueError: shapes that don't fit.
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

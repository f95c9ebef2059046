"""The truncated SVD from the eigenvectors of A Aᵀ, in float64."""

import torch
from torch import Tensor

from .base import SVD, factorise
from .orthonormal import widened

# The least σ_k/σ₁ that squaring leaves enough of, by the dtype of A.
_TRUSTED = {torch.float64: 1e-4, torch.float32: 1e-7}
_EPS = torch.finfo(torch.float64).eps


def gram_svd(A: Tensor, k: int) -> SVD:
    """The best rank-k approximation of A (..., m, n), by an eigenproblem of size min(m, n).

    A Aᵀ (or AᵀA) squares the condition number, so it is formed in float64, whatever A is.
    U are its eigenvectors, S and V the lengths and directions of Aᵀuᵢ. Values above 1e-7 of
    the largest come out to float32's precision; for float64, those above 1e-4 to about
    1e-16 (σ₁/σᵢ)². Where σ_k is smaller, or A is of rank below k, :func:`torch.linalg.svd`
    answers instead.

    Returns:
        U (..., m, k), S (..., k) and Vh (..., k, n) in A's dtype. S can be differentiated,
        U and Vh cannot.

    Raises:
        TypeError: A is not a real floating-point tensor, or k not a whole number.
        ValueError: no matrix, k not in 1 … min(m, n), NaN or infinity in A, or a singular value
            that is too large for A's dtype.
    """
    return factorise(by_gram, A, k)


def by_gram(A: Tensor, k: int) -> SVD:
    """The driver behind :func:`gram_svd`, for float32 and float64."""
    if A.shape[-2] > A.shape[-1]:
        return by_gram(A.mT, k).mT
    W, scale = widened(A)
    U = torch.linalg.eigh(W @ W.mT).eigenvectors[..., -k:].flip(-1)
    SVh = U.mT @ W
    S = SVh.norm(dim=-1)
    spread = float((S[..., -1] / S[..., 0]).min())
    if not spread > _TRUSTED[A.dtype]:  # nor NaN, as of the zero matrix
        return by_lapack(A, k)
    Vh = SVh / S.unsqueeze(-1)
    if _EPS / spread**2 > torch.finfo(A.dtype).eps / 8:
        # Row by row from the longest, which is the most exact, and nearly orthogonal already.
        Vh = torch.linalg.solve_triangular(torch.linalg.cholesky(Vh @ Vh.mT), Vh, upper=False)
    # Equal values may come out of order by rounding.
    S = S.cummin(-1).values
    if scale is not None:
        S = S * scale.squeeze(-1)
    return SVD(U.to(A.dtype), S.to(A.dtype), Vh.to(A.dtype))


def by_lapack(A: Tensor, k: int) -> SVD:
    """``torch.linalg.svd`` (LAPACK's, or the GPU's own), cut off at k."""
    U, S, Vh = torch.linalg.svd(A, full_matrices=False)
    return SVD(U[..., :k], S[..., :k], Vh[..., :k, :])

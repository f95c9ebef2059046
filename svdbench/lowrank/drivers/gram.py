"""SVD by the Gram matrix, and orthonormal bases: Householder's QR on a CPU, Cholesky's on a GPU.

On a GPU ``torch.linalg.qr`` takes a batch matrix by matrix, and each column by column; the
Gram matrix YᵀY = RᵀR and Q = Y R⁻¹ take a few calls for a whole batch. The Gram matrix squares
the condition number of Y, so it is in float64. On a CPU LAPACK's QR was as fast or faster at
every size tried (2,048 × 288, one core: 14 ms against 21 ms).
"""

import torch
from torch import Tensor

from .base import SVD, factorise

# Diagonal entries of R over the largest: below the first Cholesky's factor is not to be
# trusted, below the second one pass leaves Q orthonormal to 1e-10 only.
_LOST, _TWICE = 1e-6, 1e-3


def widened(A: Tensor) -> tuple[Tensor, Tensor | None]:
    """A in float64, scaled so that its squares neither overflow nor vanish, and the scale.

    The squares of float32 numbers fit into float64 as they are: no scale. Otherwise it has
    shape (..., 1, 1).
    """
    if A.dtype != torch.float64:
        return A.double(), None
    largest = A.abs().amax((-2, -1), keepdim=True)
    scale = torch.where(largest > 0, largest, 1.0)
    return A / scale, scale


def orthonormal(Y: Tensor) -> tuple[Tensor, Tensor]:
    """Y = Q R for Y (..., m, l), l ≤ m: Q (..., m, l) orthonormal, R (..., l, l) upper triangular.

    Q is orthonormal whatever the rank of Y.
    """
    if Y.device.type == "cpu":
        Q, R = torch.linalg.qr(Y)
        return Q, R
    return cholesky_qr(Y)


def cholesky_qr(Y: Tensor) -> tuple[Tensor, Tensor]:
    """The same by Cholesky's factor of YᵀY, once or twice; by ``torch.linalg.qr`` where that fails.

    Source: Yamamoto et al., "Roundoff error analysis of the CholeskyQR2 algorithm", ETNA 44,
    2015.
    """
    W, scale = widened(Y)
    R, info = torch.linalg.cholesky_ex(W.mT @ W, upper=True)
    diagonal = R.diagonal(dim1=-2, dim2=-1)
    spread = diagonal.amin(-1) / diagonal.amax(-1)
    if not bool(((info == 0) & (spread > _LOST)).all()):
        Q, R = torch.linalg.qr(Y)
        return Q, R
    Q = torch.linalg.solve_triangular(R, W, upper=True, left=False)
    if Y.dtype == torch.float64 or not bool((spread > _TWICE).all()):
        again = torch.linalg.cholesky(Q.mT @ Q, upper=True)
        Q, R = torch.linalg.solve_triangular(again, Q, upper=True, left=False), again @ R
    return Q.to(Y.dtype), (R if scale is None else R * scale).to(Y.dtype)


# The least σ_k/σ₁ that squaring leaves enough of, by the dtype of A.
_TRUSTED = {torch.float64: 1e-4, torch.float32: 1e-7}
_EPS = torch.finfo(torch.float64).eps


def gram_svd(A: Tensor, k: int) -> SVD:
    """The best rank-k approximation of A (..., m, n), from an eigenproblem of size min(m, n).

    Forming A Aᵀ (or AᵀA) squares the condition number, so it is computed in float64 for any dtype
    of A. U are its eigenvectors, S and V the lengths and directions of Aᵀuᵢ. In float32, singular
    values above 1e-7 of the largest are accurate to float32's precision; in float64, those above
    1e-4 of it to about 1e-16 (σ₁/σᵢ)². If σ_k is smaller, or A has a rank below k,
    :func:`torch.linalg.svd` is used instead.

    Returns:
        U (..., m, k), S (..., k) and Vh (..., k, n) in A's dtype. S can be differentiated,
        U and Vh cannot.

    Raises:
        TypeError: A is not a real floating-point tensor, or k not a whole number.
        ValueError: no matrix, k not in 1 … min(m, n), NaN or infinity in A, or a singular value
            that is too large for A's dtype.

    Example:
        >>> U, S, Vh = gram_svd(torch.diag(torch.tensor([3.0, 2.0, 1.0])), k=2)
        >>> S
        tensor([3., 2.])
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

"""Orthonormal bases of tall matrices: Householder's QR on a CPU, Cholesky's on a GPU.

``torch.linalg.qr`` takes a batch matrix by matrix on a GPU, and each column by column.
There the Gram matrix YᵀY = RᵀR and Q = Y R⁻¹ are a few calls for a whole batch. The Gram
matrix squares the condition number of Y, so it is kept in float64. On a CPU LAPACK's QR was
as fast or faster at every size tried (2,048 × 288, one core: 14 ms against 21 ms).
"""

import torch
from torch import Tensor

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

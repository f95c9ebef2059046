"""From a matrix with orthonormal columns to reflectors whose product it is.

Throughout, ``E`` is the first r columns of the identity of size d, and a matrix
is written as ``H(v₁)⋯H(vₙ) E diag(signs)``. No reflector found here is zero: a
zero reflector has gradient zero, so training could never bring it back.
"""

import torch
from torch import Tensor

from svdbench.kernels import apply_reflectors_reference


def qr_reflectors(W: Tensor) -> tuple[Tensor, Tensor]:
    """The reflectors of the Q factor of W, by Householder QR.

    The factor meant is the one with diag(R) ≥ 0, so that a W with orthonormal
    columns is its own Q factor. Its sign is carried by ``signs``: LAPACK picks
    the reflectors that cancel no digits, and they need either sign.

    Args:
        W: shape (..., d, r), d ≥ r, float32 or float64; any rank.

    Returns:
        Reflectors as rows (..., r, d), the j-th one with 1 in its place j and
        zeros before it, and signs ±1 (..., r).

    Source: Golub and Van Loan, Matrix Computations, §5.2.
    """
    d, r = W.shape[-2:]
    factors, tau = torch.geqrf(W)
    V = factors.mT.triu(1) + torch.eye(r, d, dtype=W.dtype, device=W.device)
    # Where a column needs no reflection LAPACK stores tau = 0, H = I. Here it is
    # H(e_j), which changes nothing but the sign of row j of R.
    diagonal = factors.diagonal(dim1=-2, dim2=-1)
    diagonal = torch.where(tau == 0, -diagonal, diagonal)
    return V, torch.where(diagonal < 0, -1.0, 1.0).to(W)


def few_reflectors(W: Tensor, n: int, tol: float) -> tuple[Tensor, Tensor] | None:
    """Exactly n < r reflectors whose product is W, if there are any.

    The only sign ever needed is one on the last column: n reflectors have
    determinant (−1)ⁿ, and flipping a column makes up for the other parity.

    Args:
        W: one matrix (d, r) with orthonormal columns.
        n: number of reflectors, below r.
        tol: singular values of W − E below it count as rounding.

    Returns:
        Unit reflectors as rows (n, d) and signs (r,), in float64; or None if
        n reflectors cannot make W.
    """
    W = W.double()
    signs = torch.ones_like(W[0])
    for last in (1.0, -1.0):
        signs[-1] = last
        V = _product_of(W * signs, n, tol)
        if V is not None:
            return V, signs
    return None


def _product_of(W: Tensor, n: int, tol: float) -> Tensor | None:
    """n reflectors with H(v₁)⋯H(vₙ) E = W, or None.

    Rank(W − E) reflectors are necessary, as each changes one direction, and
    sufficient: H(Wx − Ex) sends Wx to Ex and leaves alone what was right before.
    All of them lie in the range of W − E, so the work is done in a space Y of
    dimension n around it, where Q = I + Y(M − I)Yᵀ for some orthogonal M (n × n).
    """
    d, r = W.shape
    E = torch.eye(d, r, dtype=W.dtype, device=W.device)
    U, sigma, _ = torch.linalg.svd(W - E, full_matrices=False)
    p = int((sigma > tol).sum())
    if p > n:
        return None
    # Of C = W − E the upper part lies in the row space, and C + Cᵀ = −CᵀC there, as W
    # is orthonormal. Rounding in W breaks both, which matters where reflectors hardly
    # touch E; so keep only the skew half of the upper part and take the rest from CᵀC.
    # (The row space by a step of subspace iteration: LAPACK's right vectors are off by
    # some 50 eps where singular values come in pairs, as they do here.)
    rows = torch.linalg.qr((W - E).mT @ U[:, :p]).Q.mT
    C = (W - E) @ rows.mT
    K = rows @ C[:r]
    C = torch.cat([rows.mT @ (K - K.mT - C.mT @ C) / 2, C[r:]])
    # Room left in Y is filled first with a direction that E doesn't have: there M may
    # have either sign, and so either determinant, and W remains the same.
    spare = torch.eye(d, min(r + 1, d), dtype=W.dtype, device=W.device)[:, r:]
    Y = torch.linalg.qr(torch.cat([C / sigma[:p], spare, U[:, p:]], -1)).Q[:, :n]
    # M is the orthogonal matrix of determinant (−1)ⁿ that takes YᵀE nearest to
    # YᵀW (Kabsch).
    left, _, right = torch.linalg.svd((Y.mT @ (E + C @ rows)) @ (Y.mT @ E).mT)
    if torch.linalg.det(left) * torch.linalg.det(right) * (-1) ** n < 0:
        left[:, -1].neg_()
    V = positive_qr_reflectors(left @ right, n)[0] @ Y.mT
    error = torch.linalg.matrix_norm(apply_reflectors_reference(V, E) - W, 2)
    return V if error <= 10 * tol else None


def positive_qr_reflectors(M: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """n reflectors, none zero, that take the first n columns of an orthogonal M to those of I.

    Householder QR with R = I rather than R = diag(±1), as no signs are kept; the
    first entry of v is computed without cancellation (Golub and Van Loan, §5.1.3). All d of
    them make M, if det M = (−1)ᵈ: otherwise M with its last column negated.

    Args:
        M: orthogonal, (d, d), float64.
        n: number of reflectors, at most d.

    Returns:
        Unit reflectors as rows (n, d), the j-th with zeros before place j, and the rest
        H(vₙ)⋯H(v₁) M. If column n of M was as it should be after n − 1 reflectors, the
        rest has −1 in the next diagonal place.
    """
    d = M.shape[-1]
    V = M.new_zeros(n, d)
    for j in range(n):
        x, rest = M[j:, j], torch.linalg.vector_norm(M[j + 1 :, j])
        if rest == 0 and (x[0] > 0 or j == d - 1):
            # Nothing to do: reflect the next coordinate, and let the next step undo it.
            # At the last step −1 is left, because of the determinant.
            V[j, min(j + 1, d - 1)] = 1.0
        else:
            length = torch.hypot(x[0], rest)
            V[j, j:] = x
            V[j, j] = x[0] - length if x[0] <= 0 else -(rest / (x[0] + length)) * rest
            V[j] /= torch.linalg.vector_norm(V[j])
        M = apply_reflectors_reference(V[j : j + 1], M)
    return V, M

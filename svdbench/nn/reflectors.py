"""From a matrix with orthonormal columns to reflectors whose product it is.

Throughout, ``E`` is the first r columns of the identity of size d, and a matrix
is written as ``H(v₁)⋯H(vₙ) E diag(signs)``. A zero reflector has gradient zero, so
training could never bring it back: there is one only where it says so.
"""

import torch
from torch import Tensor

from svdbench.kernels import apply_reflectors, apply_reflectors_reference

PANEL = 32
"""Columns that are reflected one by one; the ones after them follow by a matrix product."""


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


def q_factor(W: Tensor) -> Tensor:
    """The Q factor of W (..., d, r), d ≥ r, with diag(R) ≥ 0; of any rank, real or complex."""
    Q, R = torch.linalg.qr(W)
    return Q * torch.where(R.diagonal(dim1=-2, dim2=-1).real < 0, -1.0, 1.0).to(Q).unsqueeze(-2)


def signed_reflectors(
    Q: Tensor, signs: Tensor | None = None, n: int | None = None
) -> tuple[Tensor, Tensor]:
    """n reflectors that take the first n columns of Q to those of E diag(signs).

    For n = r their product is Q: H(v₁)⋯H(v_r) E diag(signs) = Q. With signs of its own
    choice it takes −1 unless that leaves a reflector with nearly nothing in its place j,
    where derivatives of the product vanish in some directions. The identity then needs
    the reflectors e₁ … e_r, which can turn it in every direction.

    Args:
        Q: orthonormal columns, (..., d, r), float32 or float64, or complex.
        signs: ±1, (..., r); None chooses them. If Q is complex they follow from it.
        n: number of reflectors, r by default.

    Returns:
        Unit reflectors as rows (..., n, d), the j-th with zeros before place j, and signs
        (..., n). If n = d and the signs are given, H(v_d) can be no more than a sign, and
        v_d is zero where none is needed, which the determinant decides. If Q is complex,
        signs are unit phases, and place j of the j-th reflector has the phase of its sign.

    Source: Golub and Van Loan, Matrix Computations, §5.1.3 for v without cancellation,
    §5.2.3 for blocks of columns.
    """
    d, r = Q.shape[-2:]
    n = r if n is None else n
    signs = None if signs is None or Q.is_complex() else signs.to(Q)
    M, V = Q.clone(), Q.new_zeros(*Q.shape[:-2], n, d)
    found = []
    for start in range(0, n, PANEL):
        end = min(start + PANEL, n)
        for j in range(start, end):
            x = M[..., j:, j]
            v, sign = _reflector(x, None if signs is None else signs[..., j])
            V[..., j, j:] = v
            found.append(sign)
            tail = M[..., j:, j + 1 : end]
            tail -= 2 * v.unsqueeze(-1) * (v.conj().unsqueeze(-2) @ tail)
        if end < r:
            block, rest = V[..., start:end, start:], M[..., start:, end:]
            M[..., start:, end:] = apply_reflectors(block, rest.contiguous(), transpose=True)
    return V, torch.stack(found, -1) if found else Q.new_ones(*Q.shape[:-2], 0)


def _reflector(x: Tensor, sign: Tensor | None) -> tuple[Tensor, Tensor]:
    """A unit v with H(v) x = sign ‖x‖ e₁, for x (..., d) and sign (...)."""
    first, rest = x[..., 0], torch.linalg.vector_norm(x[..., 1:], dim=-1)
    length = torch.hypot(first.abs(), rest)
    if x.is_complex():
        sign = -torch.where(first == 0, torch.ones_like(first), first.sgn())
    elif sign is None:
        sign = torch.where(first < -0.98 * length, 1.0, -1.0).to(x)
    y = sign.conj().unsqueeze(-1) * x
    y0 = y[..., 0].real
    # y₀ − ‖y‖, without cancellation.
    v0 = torch.where(y0 <= 0, y0 - length, -rest * (rest / (y0 + length)))
    v = torch.cat([v0.to(y).unsqueeze(-1), y[..., 1:]], -1)
    v = v / torch.linalg.vector_norm(v, dim=-1, keepdim=True)
    if x.is_complex():
        return v * -sign.unsqueeze(-1), sign
    # Nothing to do: reflect the next coordinate, and let the next step undo it.
    other = torch.zeros_like(v)
    other[..., 1:2] = 1.0
    flat = (rest < torch.finfo(x.dtype).tiny ** 0.5) & (y0 >= 0)
    return torch.where(flat.unsqueeze(-1), other, v), sign


def few_reflectors(
    W: Tensor, n: int, tol: float, signs: Tensor | None = None
) -> tuple[Tensor, Tensor] | None:
    """n < r reflectors whose product is W, if there are any.

    The only sign ever needed is one on the last column: n reflectors have
    determinant (−1)ⁿ, and flipping a column makes up for the other parity. Where the
    signs are given and d = r, one reflector is zero if the parity is the other one.

    Args:
        W: one matrix (d, r) with orthonormal columns.
        n: number of reflectors, below r.
        tol: singular values of W − E below it count as rounding.
        signs: ±1, (r,); None chooses that of the last column.

    Returns:
        Unit reflectors as rows (n, d) and signs (r,), in float64; or None if
        n reflectors cannot make W.
    """
    W = W.double()
    d, r = W.shape
    if signs is not None:
        signs = signs.to(W)
        V = _product_of(W * signs, n, tol)
        if V is None and d == r:
            V = _product_of(W * signs, n - 1, tol)
            V = None if V is None else torch.cat([V, V.new_zeros(1, d)])
        return None if V is None else (V, signs)
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

    Householder QR with R = I rather than R = diag(±1), as no signs are kept. All d of
    them make M, if det M = (−1)ᵈ: otherwise M with its last column negated.

    Args:
        M: orthogonal, (d, d), float64.
        n: number of reflectors, at most d.

    Returns:
        Unit reflectors as rows (n, d), the j-th with zeros before place j, and the rest
        H(vₙ)⋯H(v₁) M. If column n of M was as it should be after n − 1 reflectors, the
        rest has −1 in the next diagonal place, or in the last.
    """
    V, _ = signed_reflectors(M, M.new_ones(M.shape[-1]), n)
    if n and n == M.shape[-1]:
        V[-1, -1] = 1.0  # where it is zero, −1 is left, because of the determinant
    return V, apply_reflectors(V, M, transpose=True)

"""Functions of a matrix given by its SVD, W = U Σ Vᵀ, without forming W.

U and V are products of Householder reflectors, given by the rows of ``U`` and ``V``,
and Σ is ``diag(s)``. So W⁻¹X, log|det W|, and with V = U (W symmetric) e^W X and the
Cayley map cost what two products of reflectors cost, O(ndm), or less.

Everything is differentiable in all its arguments, in second order too, and takes
leading batch dimensions, which broadcast. Throughout:

* ``U``: reflectors of length d as rows, shape (..., n, d); a row of zeros is the
  identity, and lengths do not matter. ``V`` likewise, its n may differ.
* ``s``: shape (..., d), of any signs and in any order; zero where it says so only.
* ``X``: shape (d,), (d, m) or (..., d, m); the result has the same shape.

In :func:`apply` and :func:`inverse_apply`, W may be rectangular, d_out × d_in: U then
has reflectors of length d_out, V of length d_in, and s min(d_out, d_in) entries.

Arguments that don't fit raise ValueError, or TypeError if their dtypes differ.

Source: Mathiasen et al., "What if Neural Networks had SVDs?", NeurIPS 2020, Table 1;
the parametrisation is Zhang, Lei and Dhillon's, "Stabilizing Gradients for Deep Neural
Networks via Efficient SVD Parameterization", ICML 2018.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from svdbench.kernels import apply_reflectors


class SlogDet(NamedTuple):
    """The sign of a determinant (−1, 0 or 1) and the logarithm of its absolute value."""

    sign: Tensor
    logabsdet: Tensor


def apply(U: Tensor, s: Tensor, V: Tensor, X: Tensor) -> Tensor:
    """W X = U Σ Vᵀ X, shape (..., d_out, m) for X (..., d_in, m)."""
    d_out, d_in, r = U.shape[-1], V.shape[-1], min(U.shape[-1], V.shape[-1])
    if s.ndim < 1 or s.shape[-1] != r:
        raise ValueError(
            f"a matrix of {d_out}×{d_in} has {r} singular values, so s must be (..., {r}), "
            f"not {tuple(s.shape)}"
        )
    if X.ndim == 1:
        return apply(U, s, V, X.unsqueeze(-1)).squeeze(-1)
    Z = apply_reflectors(V, X, transpose=True)
    if r < d_in:
        Z = Z[..., :r, :]
    Z = s.unsqueeze(-1) * Z
    if r < d_out:
        Z = torch.nn.functional.pad(Z, (0, 0, 0, d_out - r))
    return apply_reflectors(U, Z)


def inverse_apply(U: Tensor, s: Tensor, V: Tensor, X: Tensor) -> Tensor:
    """W⁻¹ X = V Σ⁻¹ Uᵀ X; the pseudo-inverse if W is rectangular.

    Nothing is checked, as that would stall a GPU: where a singular value is zero W has
    no inverse, and the result is infinite or NaN, like any division by zero.
    """
    return apply(V, s.reciprocal(), U, X)


def logabsdet(s: Tensor) -> Tensor:
    """log|det W| = Σ log|sᵢ| for square W, shape (...); −∞ if W is singular.

    U and V take no part: a product of reflectors has determinant ±1. The gradient is
    1/s, and NaN where s is zero.
    """
    return s.abs().log().sum(-1)


def slogdet(U: Tensor, s: Tensor, V: Tensor) -> SlogDet:
    """Sign and logarithm of det W for square W, each of shape (...).

    A reflection has determinant −1 and a row of zeros is the identity, so
    det U = (−1)^(number of non-zero rows). If W is singular the sign is 0 and the
    logarithm −∞, as from ``torch.linalg.slogdet``.
    """
    if not U.shape[-1] == V.shape[-1] == s.shape[-1]:
        raise ValueError(
            f"U has reflectors of length {U.shape[-1]}, V of length {V.shape[-1]}, and s "
            f"{s.shape[-1]} entries: a determinant needs them all the same"
        )
    with torch.no_grad():
        reflections = U.ne(0).any(-1).sum(-1) + V.ne(0).any(-1).sum(-1)
        sign = s.sign().prod(-1) * (1 - 2 * (reflections % 2)).to(s.dtype)
    return SlogDet(sign, logabsdet(s).expand(sign.shape))


def exp_apply(U: Tensor, s: Tensor, X: Tensor) -> Tensor:
    """e^W X = U e^Σ Uᵀ X for the symmetric W = U Σ Uᵀ with eigenvalues s."""
    return apply(U, s.exp(), U, X)


def cayley_apply(U: Tensor, s: Tensor, X: Tensor) -> Tensor:
    """(I − W)(I + W)⁻¹ X = U (1 − Σ)/(1 + Σ) Uᵀ X for the symmetric W = U Σ Uᵀ.

    Infinite or NaN where an eigenvalue is −1, as I + W has no inverse then.
    """
    return apply(U, (1 - s) / (1 + s), U, X)

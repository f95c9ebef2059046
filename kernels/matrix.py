"""``reflector_matrix``: a product of reflectors as a matrix, without multiplying an identity."""

from typing import Any

import torch
from torch import Tensor

from .apply import apply_reflectors, differentiable_gradients, is_eager, second_gradients_wanted
from .plans import plan_on_cpu
from .ut import ut_factors
from .wy import gram_gradient


def reflector_matrix(V: Tensor, columns: int | None = None, *, transpose: bool = False) -> Tensor:
    """The first columns of H(v₁) H(v₂) ⋯ H(vₙ), or of its conjugate transpose.

    As ``apply_reflectors`` of the first columns of the identity, and a third cheaper where
    all reflectors fit into one block.

    Args:
        V: reflectors as rows, shape (n, d) or (..., n, d).
        columns: r ≤ d; by default d.
        transpose: those of H(vₙ)ᴴ ⋯ H(v₁)ᴴ instead.

    Returns:
        (..., d, r), with orthonormal columns.

    Raises:
        ValueError: shapes that don't fit.
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

"""Products of reflectors in compact-WY form, with matrix products only.

A block B of k reflectors (conjugated, as rows) is ``H₁⋯H_k = I − Bᴴ T B``, with T from
the UT transform (``ut``). Applying n reflectors to m columns is then n/k steps of three
matrix products (FastH, Mathiasen et al., NeurIPS 2020), and the gradients have closed forms:

    Y = B A,   Z = T Y,        A' = A − BᴴZ                       forward
    F = B G',  W = Tᴴ F,       G = G' − BᴴW                       backward
    E = half(W Zᴴ),  dB = (E + Eᴴ) B − W Aᴴ − Z G'ᴴ

where ``half`` takes the strict upper triangle and half of the diagonal. With coefficients τ
it takes the strict triangle alone, and dτ = −diag(R Qᴴ), Q = Y − N Z, R = F − NᴴW with
N = striu(BBᴴ). For the transpose, T and N change places with Tᴴ and Nᴴ, ``half`` takes the
lower triangle, and R and Q change places.

The steps wait for each other; all else is one product over many blocks. Products write
straight into the place where the next step reads, and results have the strides of X,
so that rows of data, X = xᵀ, are not copied.

Shapes: V (n, d) and X (d, m), or p products at once: V (p, n, d) and X (p, d, m).
Inside, blocks come first: (nb, k, d) or (nb, p, k, d).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .ut import half_triangle, scaled_factors, ut_factors

# Blocks whose gradients at the outputs are kept at once: bounds the memory of the backward pass.
SEGMENT = 16


class Saved(NamedTuple):
    """Saved by the forward pass for the backward pass.

    The blocks come first where there are several, and are left out where there is one.
    """

    T: Tensor  # (nb, p, k, k) UT factors
    Z: Tensor  # (nb, p, k, m) T B A
    scale: Tensor | None = None  # (nb·p, k, 1) rows were divided by this
    inputs: Tensor | None = None  # (nb, p, m, d) Aᵀ, the inputs of several blocks
    Y: Tensor | None = None  # (nb, p, k, m) B A, with coefficients only
    N: Tensor | None = None  # (nb, p, k, k) striu(BBᴴ), with coefficients only


def _products(ndim: int) -> tuple[Any, Any]:
    """The product of two matrices or of two batches, and that with a sum."""
    return (torch.mm, torch.addmm) if ndim == 2 else (torch.bmm, torch.baddbmm)


def forward(
    V: Tensor, X: Tensor, tau: Tensor | None, k: int, transpose: bool, keep: bool
) -> tuple[Tensor, Saved]:
    """H(v₁)⋯H(vₙ) X, or its (conjugate) transpose applied, and what ``backward`` needs.

    Args:
        V: reflectors (n, d) or (p, n, d); a row of zeros is the identity.
        X: (d, m) or (p, d, m).
        tau: coefficients (n,) or (p, n), or None for 2/‖v‖².
        k: block size.
        transpose: apply H(vₙ)ᴴ⋯H(v₁)ᴴ instead.
        keep: whether V or τ will need a gradient.
    """
    B = V.conj_physical() if V.is_complex() else V
    if k >= V.shape[-2]:
        mm, addmm = _products(X.ndim)
        scale, N = None, None
        if tau is None:
            B, T, scale = ut_factors(B)
        else:
            T, N = scaled_factors(B, tau)
        Y = mm(B, X)
        Z = mm(T.mH if transpose else T, Y)
        out = addmm(X, B.mH, Z, alpha=-1, out=torch.empty_like(X))
        return out, Saved(T, Z, scale) if N is None else Saved(T, Z, None, None, Y, N)
    return _sweep_forward(_in_blocks(B, k), X, tau, V.shape[-2], transpose, keep)


def _in_blocks(B: Tensor, k: int) -> Tensor:
    """Rows (n, d) or (p, n, d), with rows of zeros to fill the last block, blocks first."""
    n, d = B.shape[-2:]
    nb = -(-n // k)
    if nb * k > n:
        B = torch.nn.functional.pad(B, (0, 0, 0, nb * k - n))
    B = B.reshape(*B.shape[:-2], nb, k, d)
    return B if B.ndim == 3 else B.transpose(0, 1).contiguous()


def _order(nb: int, reverse: bool) -> range:
    return range(nb - 1, -1, -1) if reverse else range(nb)


def _sweep_forward(
    B: Tensor, X: Tensor, tau: Tensor | None, n: int, transpose: bool, keep: bool
) -> tuple[Tensor, Saved]:
    nb, *p, k, d = B.shape
    m = X.shape[-1]
    mm, addmm = _products(X.ndim)
    flat, spare = B.view(-1, k, d), nb * k - n
    Y, N, scale = None, None, None
    if tau is None:
        flat, T, scale = ut_factors(flat, spare, last=len(flat) // nb)
        B = flat.view(B.shape)
    else:
        tau = torch.nn.functional.pad(tau, (0, spare)).unflatten(-1, (nb, k))
        T, N = scaled_factors(flat, (tau.transpose(0, 1) if p else tau).reshape(-1, k))
        Y, N = X.new_empty(nb, *p, k, m), N.view(nb, *p, k, k)
    T = T.view(nb, *p, k, k)
    # Columns of a state lie together whatever the strides of X, so that no product copies one.
    inputs, Z = X.new_empty(nb if keep else 2, *p, m, d), X.new_empty(nb, *p, k, m)
    states, out = inputs.mT.unbind(0), torch.empty_like(X)
    rows, columns, each_Z = B.unbind(0), B.mH.unbind(0), Z.unbind(0)
    Ts = (T.mH if transpose else T).unbind(0)
    order = _order(nb, reverse=not transpose)
    places = states if keep else states * nb  # two in turn, where nothing is kept
    A = places[order[0]].copy_(X)
    for i, j in zip(order, [*order[1:], None], strict=True):
        BA = mm(rows[i], A) if Y is None else mm(rows[i], A, out=Y[i])
        mm(Ts[i], BA, out=each_Z[i])
        target = out if j is None else places[j]
        A = addmm(A, columns[i], each_Z[i], alpha=-1, out=target)
    return out, Saved(T, Z, scale, inputs if keep else None, Y, N)


def backward(
    V: Tensor,
    X: Tensor,
    tau: Tensor | None,
    G: Tensor,
    saved: Saved,
    transpose: bool,
    needs: tuple[bool, ...],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients at V, X and τ in their shapes, as far as ``needs`` says, given that at the output.

    Of complex numbers the gradient is PyTorch's: that of steepest ascent.
    """
    B = V.conj_physical() if V.is_complex() else V
    k, need_B = saved.T.shape[-1], needs[0] or needs[2]
    if saved.T.ndim == V.ndim:
        if saved.scale is not None:
            B = B / saved.scale
        mm, addmm = _products(X.ndim)
        F = mm(B, G)
        W = mm(saved.T if transpose else saved.T.mH, F)
        dX = addmm(G, B.mH, W, alpha=-1, out=torch.empty_like(X)) if needs[1] else None
        if not need_B:
            return None, dX, None
        dB = _reflector_gradient(B, X.mT, G.mT, W, saved.Z, transpose, tau is not None)
        dtau = None if tau is None else _coefficient_gradient(saved, F, W, transpose)
        if saved.scale is not None:
            dB.div_(saved.scale)
    else:
        n = V.shape[-2]
        B = _in_blocks(B, k)
        if saved.scale is not None:
            B = (B.view(-1, k, B.shape[-1]) / saved.scale).view(B.shape)
        blocks, dX, dtau = _sweep_backward(B, X, G, saved, transpose, need_B, needs[1])
        if blocks is None:
            return None, dX, None
        dB = blocks
        if V.ndim == 3:
            dB = dB.transpose(0, 1)
            dtau = None if dtau is None else dtau.transpose(0, 1)
        dB = dB.reshape(*V.shape[:-2], -1, V.shape[-1])[..., :n, :]
        dtau = None if dtau is None else dtau.reshape(*V.shape[:-2], -1)[..., :n]
    return dB.conj_physical() if V.is_complex() else dB, dX, dtau


def _sweep_backward(
    B: Tensor, X: Tensor, G: Tensor, saved: Saved, transpose: bool, need_B: bool, need_X: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients at the blocks, at X, and at the coefficients (nb, p, k)."""
    nb, *p, k, d = B.shape
    m, with_tau, segment = G.shape[-1], saved.N is not None, min(nb, SEGMENT)
    mm, addmm = _products(G.ndim)
    # The gradient at the output of each block of a segment, and of the first of the next one.
    outputs, W = G.new_empty(segment + (nb > segment), *p, m, d), G.new_empty(segment, *p, k, m)
    F = torch.empty_like(W) if with_tau else None
    states, each_W = outputs.mT.unbind(0), W.unbind(0)
    rows, columns = B.unbind(0), B.mH.unbind(0)
    Ts = (saved.T if transpose else saved.T.mH).unbind(0)
    dX = torch.empty_like(X) if need_X else None
    dB = torch.empty_like(B) if need_B else None
    dtau = G.new_empty(nb, *p, k) if need_B and with_tau else None
    order = _order(nb, reverse=transpose)
    A = G
    for start in range(0, nb, segment):
        part = order[start : start + segment]
        first = min(part)
        A = states[part[0] - first].copy_(A)
        for i, j in zip(part, [*part[1:], None], strict=True):
            here = i - first
            BA = mm(rows[i], A) if F is None else mm(rows[i], A, out=F[here])
            mm(Ts[i], BA, out=each_W[here])
            target = states[segment if j is None else j - first] if i != order[-1] else dX
            if target is not None:
                A = addmm(A, columns[i], each_W[here], alpha=-1, out=target)
        if dB is not None:
            ends = outputs, W, F
            _segment_gradients(dB, dtau, B, saved, ends, slice(first, first + len(part)), transpose)
    if dB is not None and saved.scale is not None:
        dB.view(-1, k, d).div_(saved.scale)
    return dB, dX, dtau


def _segment_gradients(
    dB: Tensor,
    dtau: Tensor | None,
    B: Tensor,
    saved: Saved,
    ends: tuple[Tensor, Tensor, Tensor | None],
    span: slice,
    transpose: bool,
) -> None:
    """Write the gradients at the blocks of a span, whose W, F and outputs' gradients are given."""
    whole, count = span.stop - span.start == len(B), span.stop - span.start

    def cut(tensor: Tensor | None, part: slice) -> Any:
        """A part of the blocks, those of all products in one batch."""
        if tensor is None:
            return None
        tensor = tensor if whole else tensor[part]
        return tensor if tensor.ndim == 3 else tensor.flatten(0, 1)

    outputs, W, F = (cut(tensor, slice(count)) for tensor in ends)
    Z, inputs = cut(saved.Z, span), cut(saved.inputs, span)
    out = cut(dB, span)
    _reflector_gradient(cut(B, span), inputs, outputs, W, Z, transpose, dtau is not None, out=out)
    if dtau is not None:
        here = Saved(saved.T, Z, Y=cut(saved.Y, span), N=cut(saved.N, span))
        dtau[span] = _coefficient_gradient(here, F, W, transpose).view(dtau[span].shape)


def _reflector_gradient(
    B: Tensor,
    At: Tensor,
    Gt: Tensor,
    W: Tensor,
    Z: Tensor,
    transpose: bool,
    with_tau: bool,
    out: Tensor | None = None,
) -> Tensor:
    """(E + Eᴴ) B − W Aᴴ − Z Gᴴ, given Aᵀ and Gᵀ."""
    _, addmm = _products(B.ndim)
    dB = gram_gradient(B, W, Z, transpose, with_tau, out)
    addmm(dB, W, At.conj(), alpha=-1, out=dB)
    return addmm(dB, Z, Gt.conj(), alpha=-1, out=dB)


def gram_gradient(
    B: Tensor,
    W: Tensor,
    Z: Tensor,
    transpose: bool,
    with_tau: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """(E + Eᴴ) B: the gradient at B by way of the Gram matrix."""
    mm, _ = _products(B.ndim)
    half = half_triangle(B.shape[-2], transpose, 0.0 if with_tau else 0.5, B.dtype, B.device)
    E = mm(W, Z.mH).mul_(half)
    result: Tensor = mm(E + E.mH, B, out=out)
    return result


def _coefficient_gradient(saved: Saved, F: Tensor, W: Tensor, transpose: bool) -> Tensor:
    """−diag(R Qᴴ): the gradient at τ, (k,) or (blocks, k)."""
    _, addmm = _products(F.ndim)
    Y, N, Z = saved.Y, saved.N, saved.Z
    assert Y is not None
    assert N is not None
    if transpose:
        F, W, Y, Z = Y, Z, F, W
    Q, R = addmm(Y, N, Z, alpha=-1), addmm(F, N.mH, W, alpha=-1)
    return (R * Q.conj()).sum(-1).neg_()

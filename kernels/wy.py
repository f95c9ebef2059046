"""Products of reflectors in compact-WY form, with matrix products only.

A block B (k × d) of reflectors is ``H₁⋯H_k = I − Bᵀ T B``, where with T
from the UT transform (``ut``). Applying n reflectors to m columns is then n/k
steps of three matrix products (FastH, Mathiasen et al., NeurIPS 2020), and the
gradients have closed forms:

    Y = B A,   Z = T Y,        A' = A − BᵀZ                       forward
    dY = −Tᵀ B G',             G = G' + BᵀdY                      backward
    dB = dY Aᵀ − Z G'ᵀ − (E + Eᵀ) B,   E = striu(dY Zᵀ) + ½ diag(dY Zᵀ)

The steps of the sweep depend on each other; all else is batched over blocks.

Shapes: V (p, n, d) holds p independent products, X (p, d, m); n is a multiple
of the block size k. Everything is laid out block first.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .ut import half_triangle, ut_factors

# Blocks whose states are kept at once in the backward sweep: bounds its memory.
SEGMENT = 16


class SavedBlocks(NamedTuple):
    """Saved by the forward pass for the backward pass."""

    blocks: Tensor  # (nb, p, k, d) the reflectors
    panels: Tensor  # (g, nb, k, w) the same, as the sweep reads them
    T: Tensor  # (nb, p, k, k) UT factors
    inputs: Tensor  # (nb, g, w, m) A, the input of every block; empty if V needs no gradient
    Z: Tensor  # (nb, p, k, m) T B A; empty if V needs no gradient
    scale: Tensor | None  # (nb·p, k, 1) rows were divided by this


def _to_panels(blocks: Tensor, h: int) -> Tensor:
    """The reflectors cut into h panels of columns: (g, nb, k, w), g = p·h, w = d/h.

    On a CPU a thread then keeps its own part of the state in its own cache.
    Rows a multiple of 512 bytes apart fall into few sets of the cache, which
    makes the products with Bᵀ 1.6 times slower: such rows are set further apart.
    """
    nb, p, k, d = blocks.shape
    w = d // h
    padded = w + 64 // blocks.element_size()
    on_cpu = blocks.device.type == "cpu"
    if h == 1 and not (on_cpu and nb > 1 and w * blocks.element_size() % 512 == 0):
        return blocks.transpose(0, 1)
    panels = blocks.new_empty(p, h, nb, k, padded)[..., :w]
    panels.copy_(blocks.view(nb, p, k, h, w).permute(1, 3, 0, 2, 4))
    return panels.flatten(0, 1)


def _sweep_order(nb: int, reverse: bool) -> range:
    return range(nb - 1, -1, -1) if reverse else range(nb)


def _wide(T: Tensor, h: int) -> tuple[Tensor, ...]:
    """T once per panel, side by side: one product then also sums Y over the panels."""
    return (T if h == 1 else T.repeat(1, 1, 1, h)).unbind(0)


def _spread(Z: Tensor, h: int) -> tuple[Tensor, ...]:
    """The same Z (nb, p, k, m) for each panel: (g, k, m), block by block."""
    nb, p, k, m = Z.shape
    return Z.unsqueeze(2).expand(nb, p, h, k, m).view(nb, p * h, k, m).unbind(0)


def forward(
    V: Tensor, X: Tensor, k: int, h: int, transpose: bool, keep: bool
) -> tuple[Tensor, SavedBlocks]:
    """H(v₁)⋯H(vₙ) X, or its transpose applied, and what the backward pass needs.

    Args:
        V: reflectors (p, n, d), contiguous; a row of zeros is the identity.
        X: (p, d, m).
        k: block size, a divisor of n.
        h: panels, a divisor of d; 1 unless p = 1.
        transpose: apply H(vₙ)⋯H(v₁) instead.
        keep: whether V will need a gradient.
    """
    p, n, d = V.shape
    nb, g, w, m = n // k, p * h, d // h, X.shape[-1]
    blocks, T, scale = ut_factors(V.view(p, nb, k, d).transpose(0, 1).reshape(-1, k, d))
    blocks, T = blocks.view(nb, p, k, d), T.view(nb, p, k, k)
    panels = _to_panels(blocks, h)

    A = X.clone(memory_format=torch.contiguous_format).view(g, w, m)
    Y = X.new_empty(g, k, m)
    inputs = X.new_empty(nb if keep else 0, g, w, m)
    Z = X.new_empty(nb if keep else 1, p, k, m)
    wide_Y = Y.view(p, h * k, m)
    rows, columns = panels.unbind(1), panels.mT.unbind(1)
    Ts = _wide(T.mT if transpose else T, h)
    each_Z, spread_Z, each_input = Z.unbind(0), _spread(Z, h), inputs.unbind(0)
    for i in _sweep_order(nb, reverse=not transpose):
        j = i if keep else 0
        torch.bmm(rows[i], A, out=Y)
        torch.bmm(Ts[i], wide_Y, out=each_Z[j])
        if keep:
            each_input[i].copy_(A)
        A.baddbmm_(columns[i], spread_Z[j], alpha=-1)
    return A.view(X.shape), SavedBlocks(blocks, panels, T, inputs, Z, scale)


def restore(V: Tensor, T: Tensor, inputs: Tensor, Z: Tensor, scale: Tensor, h: int) -> SavedBlocks:
    """The tensors that ``forward`` saved, with the reflectors recomputed from V (p, n, d)."""
    nb, p, k, _ = T.shape
    padded = torch.nn.functional.pad(V, (0, 0, 0, nb * k - V.shape[1]))
    blocks = padded.view(p, nb, k, -1).transpose(0, 1) / scale.view(nb, p, k, 1)
    return SavedBlocks(blocks, _to_panels(blocks, h), T, inputs, Z, scale)


def backward(
    G: Tensor, saved: SavedBlocks, transpose: bool, need_V: bool, need_X: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients with respect to V (p, n, d) and X (p, d, m), given that at the output."""
    blocks, panels, T, inputs, Z, scale = saved
    nb, p, k, d = blocks.shape
    g, _, _, w = panels.shape
    h, m = g // p, G.shape[-1]

    A = G.clone(memory_format=torch.contiguous_format).view(g, w, m)
    Y = G.new_empty(g, k, m)
    wide_Y = Y.view(p, h * k, m)
    rows, columns = panels.unbind(1), panels.mT.unbind(1)
    Ts = _wide((T if transpose else T.mT).neg(), h)
    segment = min(nb, SEGMENT) if need_V else 1
    outputs = G.new_empty(segment if need_V else 0, g, w, m)
    dY = G.new_empty(segment, p, k, m)
    each_dY, spread_dY, each_output = dY.unbind(0), _spread(dY, h), outputs.unbind(0)
    dB = blocks.new_empty(nb, p, k, d) if need_V else None

    order = _sweep_order(nb, reverse=transpose)
    for start in range(0, nb, segment):
        part = order[start : start + segment]
        first, last = min(part), max(part) + 1
        for i in part:
            torch.bmm(rows[i], A, out=Y)
            torch.bmm(Ts[i], wide_Y, out=each_dY[i - first])
            if need_V:
                each_output[i - first].copy_(A)
            if need_X or i != order[-1]:
                A.baddbmm_(columns[i], spread_dY[i - first])
        if dB is not None:
            span = slice(first, last)
            _reflector_gradient(
                dY[: last - first].flatten(0, 1),
                Z[span].flatten(0, 1),
                inputs[span].view(-1, d, m),
                outputs[: last - first].view(-1, d, m),
                blocks[span].reshape(-1, k, d),
                transpose,
                out=dB[span].view(-1, k, d),
            )
    dX = A.view(G.shape) if need_X else None
    if dB is None:
        return None, dX
    if scale is not None:
        dB.div_(scale.view(nb, p, k, 1))
    return dB.transpose(0, 1).reshape(p, nb * k, d), dX


def _reflector_gradient(
    dY: Tensor, Z: Tensor, A: Tensor, G: Tensor, B: Tensor, transpose: bool, out: Tensor
) -> None:
    """dB = dY Aᵀ − Z Gᵀ − (E + Eᵀ) B for a batch of blocks."""
    E = torch.bmm(dY, Z.mT).mul_(half_triangle(B.shape[-2], transpose, B.dtype, B.device))
    torch.bmm(dY, A.mT, out=out)
    out.baddbmm_(Z, G.mT, alpha=-1)
    out.baddbmm_(E + E.mT, B, alpha=-1)


class SavedBlock(NamedTuple):
    """Saved by the forward pass for the backward pass."""

    T: Tensor  # (p, n, n)
    Z: Tensor  # (p, n, m) T B X
    scale: Tensor | None  # (p, n, 1) B is V divided by this


def forward_one_block(V: Tensor, X: Tensor, transpose: bool) -> tuple[Tensor, SavedBlock]:
    """The same with all reflectors in one block: no sequential step, n²d more work.

    The fastest where n is small (Likhosherstov et al., "CWY Parametrization", 2021).
    """
    B, T, scale = ut_factors(V)
    Z = torch.bmm(T.mT if transpose else T, torch.bmm(B, X))
    return torch.baddbmm(X, B.mT, Z, alpha=-1), SavedBlock(T, Z, scale)


def backward_one_block(
    V: Tensor, X: Tensor, G: Tensor, saved: SavedBlock, transpose: bool, need_V: bool, need_X: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients with respect to V and X, given the one at the output."""
    T, Z, scale = saved
    B = V if scale is None else V / scale
    W = torch.bmm(T if transpose else T.mT, torch.bmm(B, G))  # −dY
    dX = torch.baddbmm(G, B.mT, W, alpha=-1) if need_X else None
    if not need_V:
        return None, dX
    E = torch.bmm(W, Z.mT).mul_(half_triangle(B.shape[-2], transpose, B.dtype, B.device))
    dV = torch.bmm(E + E.mT, B)
    dV.baddbmm_(W, X.mT, alpha=-1)
    dV.baddbmm_(Z, G.mT, alpha=-1)
    return dV if scale is None else dV / scale, dX

"""Products of reflectors in compact-WY form by the Triton kernels: see ``wy`` for the formulas.

A step is four launches whatever n, d and m: the factors, the sweep, the reverse sweep
and the gradient at the reflectors (two more for blocks of 64, and the conversions of
half precision).
Nothing waits for the device, so it can be captured in a CUDA graph.

Shapes: V (p, n, d) and X (p, d, m) in float32, bfloat16 or float16; all that is
computed, products and gradients too, is float32.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .triton_factors import factors
from .triton_gradient import gradient
from .triton_support import current
from .triton_sweep import sweep


class SavedFused(NamedTuple):
    """Saved by the forward pass for the backward pass."""

    T: Tensor  # (p, nb, k, k) UT factors
    inputs: Tensor  # (p, nb, d, m) A, the input of every block; empty if V needs no gradient
    Z: Tensor  # (p, nb, k, m) T B A; empty if V needs no gradient
    scale: Tensor  # (p, nb, k) rows are multiplied with this


def forward(V: Tensor, X: Tensor, k: int, transpose: bool, keep: bool) -> tuple[Tensor, SavedFused]:
    """H(v₁)⋯H(vₙ) X, or its transpose applied, and what the backward pass needs.

    Args:
        V: reflectors (p, n, d); a row of zeros is the identity.
        X: (p, d, m).
        k: block size, one of ``triton_support.BLOCK_SIZES``; it need not divide n.
        transpose: apply H(vₙ)⋯H(v₁) instead.
        keep: whether V will need a gradient.
    """
    V, X = V.contiguous(), X.contiguous()
    with current(V.device):
        scale, T = factors(V, k)
        out, inputs, Z = sweep(V, scale, T, X, transpose, keep, _precision(V.dtype))
    return out, SavedFused(T, inputs, Z, scale)


def backward(
    V: Tensor, G: Tensor, saved: SavedFused, transpose: bool, need_V: bool
) -> tuple[Tensor | None, Tensor]:
    """Gradients with respect to V (p, n, d) and X (p, d, m), given that at the output."""
    T, inputs, Z, scale = saved
    V, G, precision = V.contiguous(), G.contiguous(), _precision(V.dtype)
    with current(V.device):
        dX, outputs, W = sweep(V, scale, T, G, not transpose, need_V, precision)
        if not need_V:
            return None, dX
        return gradient(V, scale, inputs, Z, outputs, W, transpose, precision), dX


def _precision(dtype: torch.dtype) -> str:
    """IEEE float32 products unless cuBLAS may use TF32; half precision fits in TF32."""
    return "tf32" if dtype != torch.float32 or _tf32_is_allowed() else "ieee"


def _tf32_is_allowed() -> bool:
    """Whether PyTorch's own products may use TF32: by its new setting or, up to 2.8, the old."""
    matmul = torch.backends.cuda.matmul
    setting = getattr(matmul, "fp32_precision", None)
    return bool(matmul.allow_tf32) if setting is None else setting == "tf32"

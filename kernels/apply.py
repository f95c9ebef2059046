"""``apply_reflectors`` and its gradients."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import core
from .choice import batch_shape, check, choose_plan
from .reference import apply_reflectors_plain, apply_reflectors_reference
from .tuning import Plan


def apply_reflectors(
    V: Tensor,
    X: Tensor,
    *,
    block_size: int | None = None,
    transpose: bool = False,
    backend: str = "auto",
) -> Tensor:
    """H(v₁) H(v₂) ⋯ H(vₙ) X with H(v) = I − 2 v vᵀ/‖v‖² and H(0) = I.

    Differentiable in V and X, in closed form, with matrix products only; in
    blocks of compact-WY form (FastH, Mathiasen et al., NeurIPS 2020). Costs
    about 4ndm operations forward and 8ndm backward, and keeps one copy of X per
    block. Second derivatives and ``torch.func`` work too, through plain operations
    that torch differentiates itself; ``torch.compile`` sees one operator.

    Args:
        V: reflectors as rows, shape (n, d) or (..., n, d), of any length; a row
            of zeros is the identity and has gradient zero.
        X: shape (d,), (d, m) or (..., d, m). Leading dimensions broadcast with
            those of V.
        block_size: reflectors to a block. By default the one that ``tune`` found
            for this shape, and a formula's where nothing was measured.
        transpose: apply the transpose H(vₙ) ⋯ H(v₁) X, which is also the inverse.
        backend: "auto"; "wy", the hand-differentiated compact-WY form by matrix
            products; "triton", the same in fused kernels for GPUs; "plain", left
            to autograd; "reference", reflector by reflector.

    Returns:
        The product, in the shape of X (broadcast) and the dtype of V and X;
        bfloat16 and float16 are computed in float32. On a GPU, float32 products
        use TF32 where PyTorch's own may (``torch.set_float32_matmul_precision``).

    Raises:
        ValueError: shapes that don't fit, an unknown backend, a block size below 1.
        TypeError: dtypes that differ or are not real floating point.

    Example:
        >>> V, X = torch.randn(64, 128), torch.randn(128, 32)
        >>> apply_reflectors(V, X).shape
        torch.Size([128, 32])
    """
    check(V, X, block_size, backend)
    if X.ndim == 1:
        out = apply_reflectors(
            V, X.unsqueeze(-1), block_size=block_size, transpose=transpose, backend=backend
        )
        return out.squeeze(-1)
    if V.numel() == 0 or X.numel() == 0:
        return X.expand(*batch_shape(V, X), *X.shape[-2:]).clone()
    if backend in ("plain", "reference") or (backend == "auto" and _is_transformed()):
        work = core.WORK_DTYPE[V.dtype]
        low_V, V, X = V, V.to(work), X.to(work)
        if backend == "reference":
            out = apply_reflectors_reference(V, X, transpose=transpose)
        else:
            out = apply_reflectors_plain(V, X, block_size=block_size, transpose=transpose)
        return out.to(low_V.dtype)
    run = partial(_run, block_size=block_size, transpose=transpose, backend=backend)
    if V.ndim == 2 and X.ndim == 2:
        return run(V, X)
    if V.ndim == 2:  # one product for all: the batch only makes X wider
        wide = X.movedim(-2, 0).reshape(X.shape[-2], -1)
        out = run(V, wide)
        return out.view(X.shape[-2], *X.shape[:-2], X.shape[-1]).movedim(0, -2)
    batch = batch_shape(V, X)
    V = V.expand(*batch, *V.shape[-2:]).reshape(-1, *V.shape[-2:])
    X = X.expand(*batch, *X.shape[-2:])
    return run(V, X.reshape(-1, *X.shape[-2:])).view(X.shape)


def _run(V: Tensor, X: Tensor, block_size: int | None, transpose: bool, backend: str) -> Tensor:
    if _autocast_is_on(V):
        with torch.autocast(V.device.type, enabled=False):
            return _run(V, X, block_size, transpose, backend)
    if torch.compiler.is_compiling():
        from .custom_op import apply_reflectors_op

        return apply_reflectors_op(V, X, block_size or 0, transpose, backend)
    out: Tensor = Apply.apply(V, X, choose_plan(V, X, block_size, backend), transpose)
    return out


class Apply(torch.autograd.Function):
    """V (n, d) and X (d, m), or V (p, n, d) and X (p, d, m)."""

    @staticmethod
    def forward(ctx: Any, V: Tensor, X: Tensor, plan: Plan, transpose: bool) -> Tensor:
        ctx.plan, ctx.transpose = plan, transpose
        out, saved = core.forward(
            _batched(V), _batched(X), plan, transpose, keep=ctx.needs_input_grad[0]
        )
        ctx.save_for_backward(V, X, *saved)
        return (out if X.ndim == 3 else out.squeeze(0)).to(X.dtype)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Any:
        if _autocast_is_on(G):
            with torch.autocast(G.device.type, enabled=False):
                return Apply.backward(ctx, G)
        V, X, *saved = ctx.saved_tensors
        needs = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # create_graph: somebody wants second derivatives
            dV, dX = _differentiable_gradients(V, X, G, ctx.transpose, *needs)
            return dV, dX, None, None
        whole = _batched(V), _batched(X), _batched(G)
        dV, dX = core.backward(*whole, tuple(saved), ctx.plan, ctx.transpose, *needs)
        return _like(V, dV), _like(X, dX), None, None


def _batched(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim == 3 else tensor.unsqueeze(0)


def _like(tensor: Tensor, gradient: Tensor | None) -> Tensor | None:
    return gradient if gradient is None or tensor.ndim == 3 else gradient.squeeze(0)


def _differentiable_gradients(
    V: Tensor, X: Tensor, G: Tensor, transpose: bool, need_V: bool, need_X: bool
) -> tuple[Tensor | None, Tensor | None]:
    work = core.WORK_DTYPE[V.dtype]
    out = apply_reflectors_plain(V.to(work), X.to(work), transpose=transpose).to(X.dtype)
    needed = [t for t, need in ((V, need_V), (X, need_X)) if need]
    found = iter(torch.autograd.grad(out, needed, G, create_graph=True))
    return (next(found) if need_V else None), (next(found) if need_X else None)


def _is_transformed() -> bool:
    """Whether a transform of torch.func is active, which only plain operations support."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return bool(active and active())


def _autocast_is_on(tensor: Tensor) -> bool:
    """Whether autocast is on: it is switched off, as low precision costs orthogonality."""
    device = tensor.device.type
    return device != "meta" and torch.is_autocast_enabled(device)

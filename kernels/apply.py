"""``apply_reflectors`` and its gradients."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import core
from .choice import batch_shape, check, choose_plan
from .plans import Plan, plan_on_cpu
from .reference import apply_reflectors_plain, apply_reflectors_reference
from .tuned_plans import plan_on_gpu

_EXACT = (Tensor, torch.nn.Parameter)  # other kinds of tensors take plain operations


def apply_reflectors(
    V: Tensor,
    X: Tensor,
    tau: Tensor | None = None,
    *,
    block_size: int | None = None,
    transpose: bool = False,
    backend: str = "auto",
) -> Tensor:
    """H(v₁) H(v₂) ⋯ H(vₙ) X with H(v) = I − 2 v vᴴ/‖v‖² and H(0) = I.

    With coefficients, H(v) = I − τ v vᴴ, as in LAPACK (``geqrf``) and DeltaNet (I − β k kᵀ); such
    an H is unitary only if it is a reflector.

    Differentiable in V, X and τ, in closed form, with matrix products only, in blocks of compact-WY
    form (FastH, Mathiasen et al., NeurIPS 2020). Takes about 4ndm operations forward and 8ndm
    backward, and saves one copy of X per block. Second derivatives, forward mode and ``torch.func``
    work too, through plain operations that torch differentiates itself; ``torch.compile`` sees one
    operator, and ``torch.export`` plain operations.

    Args:
        V: reflectors as rows, shape (n, d) or (..., n, d), real or complex, of any length;
            a row of zeros is the identity and has gradient zero.
        X: shape (d,), (d, m) or (..., d, m). Leading dimensions broadcast with
            those of V.
        tau: coefficients, shape (n,) or (..., n); by default 2/‖v‖². A coefficient of 0
            is the identity.
        block_size: reflectors per block. By default from a formula, or on a GPU the one that
            ``tune`` found for this shape.
        transpose: apply the (conjugate) transpose H(vₙ)ᴴ ⋯ H(v₁)ᴴ X, which is also the inverse if
            there is no ``tau``.
        backend: "auto"; "wy", the compact-WY form with a hand-written gradient, by matrix products;
            "triton", the same in fused kernels for GPUs; "plain", differentiated by autograd;
            "reference", reflector by reflector.

    Returns:
        The product, in the shape of X (broadcast), its strides, and the dtype of V and X;
        bfloat16 and float16 are computed in float32. On a GPU, float32 products use TF32 if
        PyTorch's own may (``torch.set_float32_matmul_precision``).

    Raises:
        ValueError: shapes that don't match, an unknown backend, a block size below 1.
        TypeError: dtypes that differ or are not floating point.

    Example:
        >>> V, X = torch.randn(64, 128), torch.randn(128, 32)
        >>> apply_reflectors(V, X).shape
        torch.Size([128, 32])
    """
    if tau is None and block_size is None and backend == "auto" and _is_simple(V, X):
        (n, d), m = V.shape, X.shape[1]
        plan = plan_on_gpu(n, d, m, V.dtype, V.device) if V.is_cuda else plan_on_cpu(n, d, m)
        out: Tensor = _apply_eagerly(V, X, None, plan, transpose)
        return out
    check(V, X, tau, block_size, backend)
    if X.ndim == 1:
        column = apply_reflectors(
            *(V, X.unsqueeze(-1), tau), block_size=block_size, transpose=transpose, backend=backend
        )
        return column.squeeze(-1)
    batch = batch_shape(V, X, tau)
    if V.numel() == 0 or X.numel() == 0:
        nothing = V.sum() if tau is None else V.sum() + tau.sum()  # whose gradients are zeros
        return X.expand(*batch, *X.shape[-2:]) + 0 * nothing
    plain = backend == "auto" and not torch.compiler.is_compiling() and _is_traced()
    if plain or _is_exported() or backend in ("plain", "reference") or not _is_exact(V, X, tau):
        return _plain(V, X, tau, block_size, transpose, backend)
    options = block_size, transpose, backend
    if V.ndim == 2 and (tau is None or tau.ndim == 1):
        if X.ndim == 2:
            return _run(V, X, tau, *options)
        # One product for all: the batch only makes X wider.
        wide = X.movedim(-2, 0).reshape(X.shape[-2], -1)
        out = _run(V, wide, tau, *options)
        return out.view(X.shape[-2], *X.shape[:-2], X.shape[-1]).movedim(0, -2)
    V = V.expand(*batch, *V.shape[-2:]).reshape(-1, *V.shape[-2:])
    X = X.expand(*batch, *X.shape[-2:])
    if tau is not None:
        tau = tau.expand(*batch, tau.shape[-1]).reshape(-1, tau.shape[-1])
    return _run(V, X.reshape(-1, *X.shape[-2:]), tau, *options).view(X.shape)


def _run(
    V: Tensor, X: Tensor, tau: Tensor | None, block_size: int | None, transpose: bool, backend: str
) -> Tensor:
    if _autocast_is_on(V):
        with torch.autocast(V.device.type, enabled=False):
            return _run(V, X, tau, block_size, transpose, backend)
    if V.is_complex():  # a product takes no notice of a conjugation that is still to be done
        V, X = V.resolve_conj(), X.resolve_conj()
    if torch.compiler.is_compiling():
        if tau is not None:
            return _plain(V, X, tau, block_size, transpose, backend)
        from .custom_op import apply_reflectors_op

        return apply_reflectors_op(V, X, block_size or 0, transpose, backend)
    plan = choose_plan(V, X, tau, block_size, backend)
    out: Tensor = Apply.apply(V, X, tau, plan, transpose)
    return out


class Apply(torch.autograd.Function):
    """V (n, d), X (d, m) and τ (n,), or a batch: V (p, n, d), X (p, d, m) and τ (p, n)."""

    @staticmethod
    def forward(
        ctx: Any, V: Tensor, X: Tensor, tau: Tensor | None, plan: Plan, transpose: bool
    ) -> Tensor:
        ctx.plan, ctx.transpose = plan, transpose
        needs = ctx.needs_input_grad
        out, saved = core.forward(V, X, tau, plan, transpose, keep=needs[0] or needs[2])
        ctx.save_for_backward(V, X, tau, *saved)
        return out

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Any:
        if _autocast_is_on(G):
            with torch.autocast(G.device.type, enabled=False):
                return Apply.backward(ctx, G)
        V, X, tau, *saved = ctx.saved_tensors
        needs = ctx.needs_input_grad
        if second_gradients_wanted(G):
            found = differentiable_gradients(V, X, tau, G, ctx.transpose, needs)
        else:
            found = core.backward(V, X, tau, G, saved, ctx.plan, ctx.transpose, needs)
        return *found, None, None


_apply_eagerly: Any = super(torch.autograd.Function, Apply).apply
"""``Apply.apply`` in half its time, for tensors that no transform of torch.func has touched."""


def differentiable_gradients(
    V: Tensor, X: Tensor, tau: Tensor | None, G: Tensor, transpose: bool, needs: tuple[bool, ...]
) -> core.Gradients:
    """Gradients at V, X and τ by operations that torch differentiates itself.

    At views of them, as X may have been made of V, by the same reflectors before: autograd adds
    what V does by way of X itself, and it must not be counted twice.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        V, X, tau = V.view_as(V), X.view_as(X), None if tau is None else tau.view_as(tau)
        wanted = [t if need else None for t, need in zip((V, X, tau), needs, strict=False)]
        out = _plain(V, X, tau, None, transpose, "plain")
        needed = [t for t in wanted if t is not None]
        found = iter(torch.autograd.grad(out, needed, G, create_graph=graph))
    dV, dX, dtau = (None if t is None else next(found) for t in wanted)
    return dV, dX, dtau


def _plain(
    V: Tensor, X: Tensor, tau: Tensor | None, block_size: int | None, transpose: bool, backend: str
) -> Tensor:
    """By operations that torch differentiates, transforms and exports itself."""
    dtype, work = V.dtype, core.WORK_DTYPE[V.dtype]
    V, X = V.to(work), X.to(work)
    tau = None if tau is None else tau.to(work)
    if backend == "reference":
        return apply_reflectors_reference(V, X, tau, transpose=transpose).to(dtype)
    out = apply_reflectors_plain(
        V, X, tau, block_size=block_size, transpose=transpose, by_products=_is_exported()
    )
    return out.to(dtype)


def second_gradients_wanted(G: Tensor) -> bool:
    """Whether backward must be differentiable itself, or is for a batch of G at once."""
    return torch.is_grad_enabled() or type(G) not in _EXACT or _is_batched(G) or _is_traced()


def is_eager(V: Tensor) -> bool:
    """Whether V is a real matrix of full precision, and nothing but eager PyTorch runs."""
    return V.dtype in core.FULL and _is_plain(V)


def _is_plain(V: Tensor) -> bool:
    """Whether nothing but eager PyTorch runs, and V is a tensor of no other kind."""
    return type(V) in _EXACT and not torch._C._is_any_autocast_enabled() and not _is_traced()


def _is_simple(V: Tensor, X: Tensor) -> bool:
    """Whether V and X are real matrices that need no preparation: asked at each call."""
    if not (type(X) in _EXACT and _is_on_one(V, X) and _is_plain(V)):
        return False
    if _is_wrapped(V) or _is_wrapped(X):  # and has outlived the transform that wrapped it
        return False
    rows, columns = V.shape, X.shape
    return (
        len(rows) == 2
        and len(columns) == 2
        and rows[1] == columns[0]
        and V.dtype is X.dtype
        and V.dtype in core.REAL
        and 0 not in rows
        and columns[1] != 0
    )


def _is_on_one(V: Tensor, X: Tensor) -> bool:
    """Whether both are on the CPU or on the same GPU."""
    if V.is_cpu:
        return X.is_cpu
    return V.is_cuda and X.is_cuda and V.get_device() == X.get_device()


def _is_traced() -> bool:
    """Whether something other than eager PyTorch runs: a compiler, a transform, a dual number."""
    return torch.compiler.is_compiling() or is_transformed()


def is_transformed() -> bool:
    """Whether a transform, a dual number or ``torch.jit.trace`` needs plain operations."""
    return (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None
    )


_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor


# Of autograd's ``is_grads_batched``, which is no transform of torch.func.
_is_batched = torch._C._functorch.is_legacy_batchedtensor


def _is_exported() -> bool:
    exporting = getattr(torch.compiler, "is_exporting", None)  # from PyTorch 2.7 on
    return exporting is not None and exporting()


def _is_exact(*tensors: Tensor | None) -> bool:
    """Whether all are plain tensors, not those of a mode or of a distributed model."""
    return all(tensor is None or type(tensor) in _EXACT for tensor in tensors)


def _autocast_is_on(tensor: Tensor) -> bool:
    """Whether autocast is on: it is switched off, as low precision costs orthogonality."""
    if not torch._C._is_any_autocast_enabled():  # a tenth of the time of the question below
        return False
    device = tensor.device.type
    return device != "meta" and torch.is_autocast_enabled(device)

"""The differentiable entry point: checks, choice of algorithm, gradients."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from . import cwy, wy
from .plain import apply_reflectors_plain
from .reference import apply_reflectors_reference
from .tuning import Case, Plan, Tuned, answers, best, candidates, measure_plans, plan_for, remember

BACKENDS = ("auto", "wy", "plain", "reference")
_WORK_DTYPE = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float16: torch.float32,
}


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
    block. Second derivatives, ``torch.func`` and ``torch.compile`` work too, through
    plain operations that torch differentiates itself.

    Args:
        V: reflectors as rows, shape (n, d) or (..., n, d), of any length; a row
            of zeros is the identity and has gradient zero.
        X: shape (d,), (d, m) or (..., d, m). Leading dimensions broadcast with
            those of V.
        block_size: reflectors to a block. By default the one that ``tune`` found
            for this shape, and a formula's where nothing was measured.
        transpose: apply the transpose H(vₙ) ⋯ H(v₁) X, which is also the inverse.
        backend: "auto"; "wy", the hand-differentiated compact-WY form; "plain",
            the same left to autograd; "reference", reflector by reflector.

    Returns:
        The product, in the shape of X (broadcast) and the dtype of V and X;
        bfloat16 and float16 are computed in float32.

    Raises:
        ValueError: shapes that don't fit, an unknown backend, a block size below 1.
        TypeError: dtypes that differ or are not real floating point.

    Example:
        >>> V, X = torch.randn(64, 128), torch.randn(128, 32)
        >>> apply_reflectors(V, X).shape
        torch.Size([128, 32])
    """
    _check(V, X, block_size, backend)
    if X.ndim == 1:
        out = apply_reflectors(
            V, X.unsqueeze(-1), block_size=block_size, transpose=transpose, backend=backend
        )
        return out.squeeze(-1)
    if V.numel() == 0 or X.numel() == 0:
        return X.expand(*_batch_shape(V, X), *X.shape[-2:]).clone()
    work = _WORK_DTYPE[V.dtype]
    if V.dtype != work:
        out = apply_reflectors(
            V.to(work), X.to(work), block_size=block_size, transpose=transpose, backend=backend
        )
        return out.to(V.dtype)
    if backend == "reference":
        return apply_reflectors_reference(V, X, transpose=transpose)
    if backend == "plain" or (backend == "auto" and _is_traced()):
        return apply_reflectors_plain(V, X, block_size=block_size, transpose=transpose)
    if V.ndim == 2 and X.ndim == 2:
        return _run(V, X, block_size, transpose)
    if V.ndim == 2:  # one product for all: the batch only makes X wider
        wide = X.movedim(-2, 0).reshape(X.shape[-2], -1)
        out = _run(V, wide, block_size, transpose)
        return out.view(X.shape[-2], *X.shape[:-2], X.shape[-1]).movedim(0, -2)
    batch = _batch_shape(V, X)
    V = V.expand(*batch, *V.shape[-2:]).reshape(-1, *V.shape[-2:])
    X = X.expand(*batch, *X.shape[-2:])
    return _run(V, X.reshape(-1, *X.shape[-2:]), block_size, transpose).view(X.shape)


def tune(V: Tensor, X: Tensor, *, budget_s: float = 1.0, again: bool = True) -> Tuned:
    """Measure which plan makes a step on these shapes fastest, and remember it.

    A step is the product and its gradients in V and X, on random data of the
    shapes, dtype and device of ``V`` (n, d) and ``X`` (d, m). The answer is kept
    on disk and used by every later ``apply_reflectors`` of that shape.

    Args:
        budget_s: seconds to measure for, after one warm-up of every plan.
        again: measure even if the answer is known already.
    """
    _check(V, X, None, "auto")
    work = _WORK_DTYPE[V.dtype]
    case = Case.of(V.shape[-2], V.shape[-1], X.shape[-1], work, V.device)
    if not again and (known := answers().get(case)):
        return known
    V = torch.randn_like(V, dtype=work).requires_grad_()
    X = torch.randn_like(X, dtype=work).requires_grad_()
    G = torch.randn_like(X)

    def step(plan: Plan) -> Any:
        def run() -> None:
            with torch.enable_grad():
                torch.autograd.grad(_Apply.apply(V, X, plan, False), (V, X), G)
            if V.is_cuda:
                torch.cuda.synchronize(V.device)

        return run

    step_s = measure_plans({plan: step(plan) for plan in candidates(case)}, budget_s)
    answer = Tuned(case, best(step_s), step_s)
    remember(answer)
    return answer


def _run(V: Tensor, X: Tensor, block_size: int | None, transpose: bool) -> Tensor:
    if _autocast_is_on(V):
        with torch.autocast(V.device.type, enabled=False):
            return _run(V, X, block_size, transpose)
    out: Tensor = _Apply.apply(V, X, plan_for(_case(V, X), block_size), transpose)
    return out


def _case(V: Tensor, X: Tensor) -> Case:
    return Case.of(V.shape[-2], V.shape[-1], X.shape[-1], V.dtype, V.device)


class _Apply(torch.autograd.Function):
    """V (n, d) and X (d, m), or V (p, n, d) and X (p, d, m)."""

    @staticmethod
    def forward(ctx: Any, V: Tensor, X: Tensor, plan: Plan, transpose: bool) -> Tensor:
        n, k = V.shape[-2], plan.block_size
        ctx.plan, ctx.transpose, ctx.one_block = plan, transpose, k >= n
        V3, X3 = _batched(V), _batched(X)
        saved: tuple[Tensor | None, ...]
        with _threads(plan.threads):
            if ctx.one_block:
                out, saved = cwy.forward(V3, X3, transpose)
            else:
                k = _even_block(n, k)
                if n % k:  # rows of zeros are the identity
                    V3 = torch.nn.functional.pad(V3, (0, 0, 0, -n % k))
                panels = plan.panels if len(V3) == 1 else 1
                keep = ctx.needs_input_grad[0]
                out, saved = wy.forward(V3, X3, k, panels, transpose, keep)
        ctx.save_for_backward(V, X, *saved)
        return out if X.ndim == 3 else out.squeeze(0)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Any:
        if _autocast_is_on(G):
            with torch.autocast(G.device.type, enabled=False):
                return _Apply.backward(ctx, G)
        V, X, *saved = ctx.saved_tensors
        need_V, need_X = ctx.needs_input_grad[:2]
        if torch.is_grad_enabled():  # create_graph: somebody wants second derivatives
            dV, dX = _differentiable_gradients(V, X, G, ctx.transpose, need_V, need_X)
            return dV, dX, None, None
        needs = ctx.transpose, need_V, need_X
        with _threads(ctx.plan.threads):
            if ctx.one_block:
                whole = _batched(V), _batched(X), _batched(G)
                dV, dX = cwy.backward(*whole, cwy.Saved(*saved), *needs)
            else:
                dV, dX = wy.backward(_batched(G), wy.Saved(*saved), *needs)
        if dV is not None and dV.shape[1] > V.shape[-2]:  # the rows that were padded
            dV = dV[:, : V.shape[-2]].contiguous()
        return _like(V, dV), _like(X, dX), None, None


@lru_cache(maxsize=256)
def _even_block(n: int, k: int) -> int:
    """The block size near k that leaves the least to pad, which costs a copy of V."""
    divisors = [j for j in range(max(1, 2 * k // 3), min(n, 4 * k // 3) + 1) if n % j == 0]
    if divisors:
        return min(divisors, key=lambda j: abs(j - k))
    return -(-n // -(-n // k))


class _threads:
    """Meanwhile, this many threads for the operations of the calling thread; 0: as they are.

    OpenMP and MKL keep the number per calling thread, so others don't notice.
    A class, since entering a generator would cost as much as a small product.
    """

    def __init__(self, number: int) -> None:
        self.before = torch.get_num_threads() if number else 0
        self.number = number if number != self.before else 0

    def __enter__(self) -> None:
        if self.number:
            torch.set_num_threads(self.number)

    def __exit__(self, *_: object) -> None:
        if self.number:
            torch.set_num_threads(self.before)


def _batched(tensor: Tensor) -> Tensor:
    return tensor if tensor.ndim == 3 else tensor.unsqueeze(0)


def _like(tensor: Tensor, gradient: Tensor | None) -> Tensor | None:
    return gradient if gradient is None or tensor.ndim == 3 else gradient.squeeze(0)


def _differentiable_gradients(
    V: Tensor, X: Tensor, G: Tensor, transpose: bool, need_V: bool, need_X: bool
) -> tuple[Tensor | None, Tensor | None]:
    out = apply_reflectors_plain(V, X, transpose=transpose)
    needed = [t for t, need in ((V, need_V), (X, need_X)) if need]
    found = iter(torch.autograd.grad(out, needed, G, create_graph=True))
    return (next(found) if need_V else None), (next(found) if need_X else None)


def _is_traced() -> bool:
    """Whether torch.compile or a transform of torch.func looks inside: plain operations, then."""
    active = getattr(torch._C, "_are_functorch_transforms_active", None)
    return torch.compiler.is_compiling() or bool(active and active())


def _autocast_is_on(tensor: Tensor) -> bool:
    """Autocast's low precision would cost orthogonality: it is switched off meanwhile."""
    device = tensor.device.type
    return device != "meta" and torch.is_autocast_enabled(device)


def _batch_shape(V: Tensor, X: Tensor) -> torch.Size:
    return torch.broadcast_shapes(V.shape[:-2], X.shape[:-2])


def _check(V: Tensor, X: Tensor, block_size: int | None, backend: str) -> None:
    if V.dtype not in _WORK_DTYPE:
        raise TypeError(f"reflectors must be real floating point, not {V.dtype}: convert V first")
    if X.dtype != V.dtype:
        raise TypeError(f"V is {V.dtype} and X is {X.dtype}: convert one to the other's dtype")
    if X.device != V.device:
        raise ValueError(f"V is on {V.device} and X on {X.device}: move one to the other's device")
    if V.ndim < 2:
        raise ValueError(f"V must hold a reflector per row, (..., n, d), not {tuple(V.shape)}")
    rows = X.shape[-1] if X.ndim == 1 else X.shape[-2] if X.ndim else None
    if rows != V.shape[-1]:
        raise ValueError(
            f"V {tuple(V.shape)} has reflectors of length {V.shape[-1]}, so X must be "
            f"({V.shape[-1]},) or (..., {V.shape[-1]}, m), not {tuple(X.shape)}"
        )
    if V.ndim > 2 or X.ndim > 2:
        try:
            _batch_shape(V, X)
        except RuntimeError:
            raise ValueError(
                f"the leading dimensions of V {tuple(V.shape)} and X {tuple(X.shape)} don't match: "
                "make them broadcast"
            ) from None
    if block_size is not None and block_size < 1:
        raise ValueError(f"block_size must be at least 1, not {block_size}")
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}: choose from {', '.join(BACKENDS)}")

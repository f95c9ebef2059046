"""No speed on a red gate: is what a method computes right, before and after it is timed?

The output, both gradients and the preserved inner products are compared with the
method's plain formula in float64. How much may be lost is derived, where ``n`` is
the number of reflectors or the length of the longest sum:

* Rounding in n successive steps or sums is bounded by c·n·eps of the result
  (Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed. (2002),
  Lemma 19.3). Measured here for d = 16 … 1024: reflectors .01–.2 n·eps (2.5 for
  200 of them in three dimensions), Cayley .1–.6, exp .5, and its gradient, which
  torch takes from an exponential of twice the size, up to 10. With c = 64 the
  worst passes with room to spare; half a per cent is the most that is ever
  allowed, so that a bug of one per cent always shows.
* In half precisions n·eps exceeds 1, but rounding errors behave like a random walk,
  √n·eps (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019). Measured: .2–.3, the
  orthogonality up to .6, and next to nothing where sums are kept in float32. Four times
  √n·eps is allowed, and never more than a quarter. So here the gate catches only
  gross bugs; the float32 cell of the same method catches the rest.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from svdbench.measure.algorithm import Algorithm, Tensors


@dataclass(frozen=True)
class GateVerdict:
    """How far a method is from the exact answer, and whether that is allowed.

    ``error`` of φ(V)X, ``grad_V_error`` and ``grad_X_error`` are Frobenius norms of the
    difference over the exact norm, the worst one's where there are several outputs or
    parameters; ``orthogonality`` is ‖(QX)ᵀ(QX) − XᵀX‖/‖XᵀX‖ with QX the computed output:
    whether inner products are preserved, at O(dm²), and None where they need not be. All
    are inf where something is not finite. ``reason`` names the worst that is not allowed.
    """

    ok: bool
    reason: str
    error: float = math.inf
    orthogonality: float | None = math.inf
    grad_V_error: float = math.inf
    grad_X_error: float = math.inf


class Step(NamedTuple):
    """What was computed, and its gradients with respect to the parameters and X."""

    outputs: tuple[Tensor, ...]
    grads_V: tuple[Tensor, ...]
    grad_X: Tensor


Reference = Step  # in float64, by the plain formula


def reference_of(method: Algorithm, V: Tensors, X: Tensor, G: Tensors) -> Reference:
    """The exact answer to ``check`` against; slow, so made once per cell and reused."""
    return _step(method.reference, V, X, G, torch.float64)


def check(
    method: Algorithm,
    V: Tensors,
    X: Tensor,
    G: Tensors,
    *,
    reference: Reference | None = None,
    factor: float = 1.0,
) -> GateVerdict:
    """Compare ``method.apply`` and its gradients with the method's plain formula.

    Args:
        method: what is judged, after its ``prepare``.
        V: its parameter or parameters, as ``method.parameter`` made them, in the working
            dtype.
        X: shape (d, m).
        G: the gradient at the output or outputs, of their shapes.
        reference: from :func:`reference_of` with the same arguments.
        factor: how many times the usual allowance is allowed.

    Returns:
        A verdict. Whatever ``apply`` raises propagates.
    """
    reference = reference or reference_of(method, V, X, G)
    step = _step(method.apply, V, X, G, X.dtype)
    given, wanted = _shapes(step.outputs), _shapes(_each(G))
    if given != wanted:
        return GateVerdict(False, f"the output has shape {given} instead of {wanted}")
    n = max(size for tensor in (*_each(V), X) for size in tensor.shape)
    errors = _errors(step, reference, V, X, G, n)
    if method.orthogonal:
        errors["orthogonality"] = _orthogonality(step.outputs[0], X)
    name, worst = max(errors.items(), key=lambda item: item[1])
    allowed = factor * allowance(X.dtype, n)
    reason = ""
    if worst > allowed:
        value = f"{worst:.1e}" if math.isfinite(worst) else "not finite"
        reason = f"{name} is {value}, at most {allowed:.1e} is allowed"
    preserved = errors.pop("orthogonality", None)
    return GateVerdict(worst <= allowed, reason, orthogonality=preserved, **errors)


def allowance(dtype: torch.dtype, n: int) -> float:
    """The relative error that rounding in ``dtype`` may cause in sums of ``n`` terms."""
    eps = torch.finfo(dtype).eps
    if torch.finfo(dtype).bits < 32:
        return min(4 * math.sqrt(n) * eps, 0.25)
    return min(64 * n * eps, 0.005)


def _step(
    phi: Callable[..., Tensors], V: Tensors, X: Tensor, G: Tensors, dtype: torch.dtype
) -> Step:
    inputs = [tensor.detach().to(dtype).requires_grad_() for tensor in (*_each(V), X)]
    with torch.enable_grad():
        outputs = _each(phi(*inputs))
    values = tuple(output.detach() for output in outputs)
    if _shapes(outputs) != _shapes(_each(G)):  # no gradient to ask for, and none is needed
        return Step(values, tuple(map(torch.zeros_like, inputs[:-1])), torch.zeros_like(X))
    # A gradient that never reaches its tensor counts as zero, which is then far off.
    grads = torch.autograd.grad(
        outputs, inputs, [g.to(dtype) for g in _each(G)], materialize_grads=True
    )
    return Step(values, grads[:-1], grads[-1])


def _each(tensors: Tensors) -> tuple[Tensor, ...]:
    return tensors if isinstance(tensors, tuple) else (tensors,)


def _shapes(tensors: tuple[Tensor, ...]) -> str:
    return " and ".join(str(tuple(tensor.shape)) for tensor in tensors)


def _errors(step: Step, exact: Step, V: Tensors, X: Tensor, G: Tensors, n: int) -> dict[str, float]:
    # A gradient that vanishes by symmetry (a reflector in one dimension) comes out as
    # rounding noise, about eps·‖G‖‖X‖/‖V‖; over this floor the noise is within n·eps.
    at_stake = math.hypot(*map(_norm, _each(G))) * _norm(X)
    floors = [at_stake / ((_norm(v) or 1.0) * n) for v in _each(V)]
    return {
        "error": max(map(_relative, step.outputs, exact.outputs)),
        "grad_V_error": max(map(_relative, step.grads_V, exact.grads_V, floors)),
        "grad_X_error": _relative(step.grad_X, exact.grad_X),
    }


def _orthogonality(output: Tensor, X: Tensor) -> float:
    output, X = output.double(), X.detach().double()
    return _relative(output.mT @ output, X.mT @ X)


def _norm(tensor: Tensor) -> float:
    return float(tensor.detach().double().norm())


def _relative(value: Tensor, exact: Tensor, floor: float = 0.0) -> float:
    difference, scale = _norm(value.double() - exact), max(_norm(exact), floor)
    if difference == 0:
        return 0.0
    return difference / scale if scale > 0 and math.isfinite(difference) else math.inf

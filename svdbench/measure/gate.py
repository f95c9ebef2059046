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

from svdbench.orthogonal.base import Method


@dataclass(frozen=True)
class Verdict:
    """How far a method is from the exact answer, and whether that is allowed.

    ``error`` of φ(V)X, ``grad_V_error`` and ``grad_X_error`` are Frobenius norms of the
    difference over the exact norm; ``orthogonality`` is ‖(QX)ᵀ(QX) − XᵀX‖/‖XᵀX‖ with
    QX the computed output: whether inner products are preserved, at O(dm²). All are
    inf where something is not finite. ``reason`` names the worst that is not allowed.
    """

    ok: bool
    reason: str
    error: float = math.inf
    orthogonality: float = math.inf
    grad_V_error: float = math.inf
    grad_X_error: float = math.inf


class Step(NamedTuple):
    """φ(V)X (d, m) and its gradients with respect to V and X."""

    output: Tensor
    grad_V: Tensor
    grad_X: Tensor


Reference = Step  # in float64, by the plain formula


def reference_of(method: Method, V: Tensor, X: Tensor, G: Tensor) -> Reference:
    """The exact answer to ``check`` against; slow, so made once per cell and reused."""
    return _step(method.reference, V, X, G, torch.float64)


def check(
    method: Method,
    V: Tensor,
    X: Tensor,
    G: Tensor,
    *,
    reference: Reference | None = None,
    factor: float = 1.0,
) -> Verdict:
    """Compare ``method.apply`` and its gradients with the method's plain formula.

    Args:
        method: what is judged, after its ``prepare``.
        V: its parameter, as ``method.parameter`` made it, in the working dtype.
        X: shape (d, m).
        G: the gradient at the output, shape (d, m).
        reference: from :func:`reference_of` with the same arguments.
        factor: how many times the usual allowance is allowed.

    Returns:
        A verdict. Whatever ``apply`` raises propagates.
    """
    reference = reference or reference_of(method, V, X, G)
    step = _step(method.apply, V, X, G, V.dtype)
    if step.output.shape != X.shape:
        given, wanted = tuple(step.output.shape), tuple(X.shape)
        return Verdict(False, f"the output has shape {given} instead of {wanted}")
    n = max(*V.shape, *X.shape)
    errors = _errors(step, reference, V.double(), X.double(), G.double(), n)
    name, worst = max(errors.items(), key=lambda item: item[1])
    allowed = factor * allowance(V.dtype, n)
    if worst <= allowed:
        return Verdict(True, "", **errors)
    value = f"{worst:.1e}" if math.isfinite(worst) else "not finite"
    return Verdict(False, f"{name} is {value}, at most {allowed:.1e} is allowed", **errors)


def allowance(dtype: torch.dtype, n: int) -> float:
    """The relative error that rounding in ``dtype`` may cause in sums of ``n`` terms."""
    eps = torch.finfo(dtype).eps
    if torch.finfo(dtype).bits < 32:
        return min(4 * math.sqrt(n) * eps, 0.25)
    return min(64 * n * eps, 0.005)


def _step(
    phi: Callable[[Tensor, Tensor], Tensor], V: Tensor, X: Tensor, G: Tensor, dtype: torch.dtype
) -> Step:
    V, X = (tensor.detach().to(dtype).requires_grad_() for tensor in (V, X))
    with torch.enable_grad():
        output = phi(V, X)
    if output.shape != G.shape:  # there is no gradient to ask for, and none is needed
        return Step(output.detach(), torch.zeros_like(V), torch.zeros_like(X))
    # A gradient that never reaches its tensor counts as zero, which is then far off.
    grads = torch.autograd.grad(output, (V, X), G.to(dtype), materialize_grads=True)
    return Step(output.detach(), *grads)


def _errors(step: Step, exact: Step, V: Tensor, X: Tensor, G: Tensor, n: int) -> dict[str, float]:
    output, grad_V, grad_X = (tensor.double() for tensor in step)
    # A gradient that vanishes by symmetry (a reflector in one dimension) comes out as
    # rounding noise, about eps·‖G‖‖X‖/‖V‖; over this floor the noise is within n·eps.
    floor = float(G.norm() * X.norm()) / ((float(V.norm()) or 1.0) * n)
    return {
        "error": _relative(output, exact.output),
        "orthogonality": _relative(output.mT @ output, X.mT @ X),
        "grad_V_error": _relative(grad_V, exact.grad_V, floor),
        "grad_X_error": _relative(grad_X, exact.grad_X),
    }


def _relative(value: Tensor, exact: Tensor, floor: float = 0.0) -> float:
    difference, scale = float((value - exact).norm()), max(float(exact.norm()), floor)
    if difference == 0:
        return 0.0
    return difference / scale if scale > 0 and math.isfinite(difference) else math.inf

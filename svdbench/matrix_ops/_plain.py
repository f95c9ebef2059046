"""The plainest formulas there are, for the gate: slow, and sharing nothing with what is timed."""

import torch
from torch import Tensor

from svdbench.kernels import apply_reflectors_reference


def through_factors(U: Tensor, f: Tensor, V: Tensor, X: Tensor) -> Tensor:
    """U diag(f) Vᵀ X reflector by reflector: U (n, d), f (d,), V (n, d), X (d, m)."""
    Z = apply_reflectors_reference(V, X, transpose=True)
    return apply_reflectors_reference(U, f.unsqueeze(-1) * Z)


def solve_by_qr(A: Tensor, X: Tensor) -> Tensor:
    """A⁻¹ X for A (d, d) and X (d, m), by QR where all that is timed goes by LU."""
    Q, R = torch.linalg.qr(A)
    return torch.linalg.solve_triangular(R, Q.mT @ X, upper=True)


def exp_by_series(W: Tensor, X: Tensor) -> Tensor:
    """e^W X = Σ Wʲ X / j! for W (d, d) and X (d, m).

    Sixty terms leave out less than 1e-21 of it while ‖W‖₂ ≤ 10.
    """
    total = term = X
    for j in range(1, 61):
        term = W @ term / j
        total = total + term
    return total

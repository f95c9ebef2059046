"""No speed on a red gate: are the factors what they say, and how near to the best?"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from svdbench.measure.gate import allowance


@dataclass(frozen=True)
class Exact:
    """What is known of A (m, n) in float64.

    Attributes:
        A: rounded to the dtype in question, as the drivers get it.
        S: (min(m, n),), all its singular values.
    """

    A: Tensor
    S: Tensor

    @classmethod
    def of(cls, A: Tensor) -> "Exact":
        wide = A.detach().cpu().double()
        return cls(wide, torch.linalg.svdvals(wide))

    @property
    def norm(self) -> float:
        return float(self.S.norm())

    def least(self, k: int) -> float:
        """The least error ‖A − A_k‖_F that rank k can have (Eckart and Young)."""
        return float(self.S[k:].norm())


@dataclass(frozen=True)
class FactorsVerdict:
    """How good factors are, and whether that is allowed.

    ``error`` is ‖A − U S Vh‖_F/‖A‖_F, ``optimal`` the least it can be, ``over_optimal`` the
    one over the other; ``s_error`` the largest |Sᵢ − σᵢ|/σ₁; ``orthogonality`` the larger
    of ‖UᵀU − I‖ and ‖Vh Vhᵀ − I‖ (spectral norm). All are inf where something is not finite.
    """

    ok: bool
    reason: str
    error: float = math.inf
    optimal: float = math.inf
    over_optimal: float = math.inf
    s_error: float = math.inf
    orthogonality: float = math.inf


def check_factors(
    factors: tuple[Tensor, Tensor, Tensor], exact: Exact, k: int, dtype: torch.dtype, promise: bool
) -> FactorsVerdict:
    """Compare the factors with the truth in float64.

    Orthonormal they must be, S must not be negative nor rise, and the error cannot be below
    the least, up to what rounding in ``dtype`` allows.

    Args:
        promise: whether the best error and the true singular values were promised.
    """
    m, n = exact.A.shape
    shapes = [tuple(factor.shape) for factor in factors]
    if shapes != [(m, k), (k,), (k, n)]:
        return FactorsVerdict(False, f"the factors have shapes {shapes}")
    U, S, Vh = (factor.detach().cpu().double() for factor in factors)
    if not all(factor.isfinite().all() for factor in (U, S, Vh)):
        return FactorsVerdict(False, "a factor is not finite")
    eye = torch.eye(k, dtype=torch.float64)
    orthogonality = max(
        float(torch.linalg.matrix_norm(gram - eye, 2)) for gram in (U.mT @ U, Vh @ Vh.mT)
    )
    norm, least, largest = exact.norm, exact.least(k), float(exact.S[0])
    error = float((exact.A - (U * S) @ Vh).norm())
    s_error = float((S - exact.S[:k]).abs().max()) / largest
    allowed = allowance(dtype, max(m, n))
    # Between values that are equal, rounding decides which comes first.
    rises = float((S[1:] - S[:-1]).max()) / largest if k > 1 else 0.0
    faults = {
        f"orthogonality is {orthogonality:.1e}": orthogonality > allowed,
        "S is negative or increases": float(S[-1]) < 0 or rises > allowed,
        f"the error is {error:.6g}, below the least, {least:.6g}": error < least - allowed * norm,
        f"the error is {error:.6g}, not the least, {least:.6g}": (
            promise and error > least + allowed * norm
        ),
        f"S is off by {s_error:.1e}": promise and s_error > allowed,
    }
    wrong = [text for text, found in faults.items() if found]
    reason = f"{wrong[0]}; {allowed:.1e} is allowed" if wrong else ""
    over = error / least if least > 0 else math.inf
    return FactorsVerdict(
        not wrong, reason, error / norm, least / norm, over, s_error, orthogonality
    )

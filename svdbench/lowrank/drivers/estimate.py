"""How far an approximation A ≈ L R is from A, told after the fact."""

import math

import torch
from torch import Tensor

from svdbench.arguments import integer

from .base import check, power_of_two, refuse_not_finite


def projection_error(A: Tensor, B: Tensor) -> Tensor:
    """‖A − Q B‖_F, shape (...), from A (..., m, n) and B = Qᵀ A (..., l, n) with Q orthonormal.

    √(‖A‖² − ‖B‖²), summed in float64: exact, and needs neither Q nor a product with A. A
    difference of squares: once the error is below about √eps ‖A‖ (3e-4 for float32, 1e-8
    for float64) it is rounding; use :func:`frobenius_error` there.

    Source: Yu, Gu and Li, SIAM J. Matrix Anal. Appl. 39(3), 2018, equation (4).
    """
    scale = _finite_scale(A)
    squares = [_norm(M.double() / scale).square() for M in (A, B)]
    return (squares[0] - squares[1]).clamp(min=0).sqrt() * scale.squeeze((-2, -1))


def frobenius_error(
    A: Tensor, L: Tensor, R: Tensor, *, probes: int = 20, generator: torch.Generator | None = None
) -> Tensor:
    """An estimate of ‖A − L R‖_F, shape (...), for A (..., m, n), L (..., m, l), R (..., l, n).

    E‖(A − LR) ω‖² is the squared norm for a Gaussian ω; the mean over ``probes`` of them is
    within a factor of 1 ± √(2/probes) of it or better, one standard deviation. No squares
    are subtracted, so small errors show down to eps ‖A‖. For an SVD, L is ``U * S[..., None, :]``.

    Source: Girard, "A fast Monte-Carlo cross-validation procedure", Numer. Math. 56, 1989.

    Raises:
        TypeError, ValueError: no matrix, NaN or infinity in A, or fewer than one probe.
    """
    residual, scale = _residual(A, L, R, probes, generator)
    return residual.square().sum(-2).mean(-1).sqrt() * scale


def spectral_error_bound(
    A: Tensor, L: Tensor, R: Tensor, *, probes: int = 10, generator: torch.Generator | None = None
) -> Tensor:
    """A bound on ‖A − L R‖₂, shape (...), that holds with probability 1 − 10^(−probes).

    10 √(2/π) times the longest of ``probes`` images (A − LR) ω of Gaussian ω.

    Source: Halko, Martinsson and Tropp, SIAM Review 53(2), 2011, equation (4.3).

    Raises:
        TypeError, ValueError: no matrix, NaN or infinity in A, or fewer than one probe.
    """
    residual, scale = _residual(A, L, R, probes, generator)
    return 10 * math.sqrt(2 / math.pi) * residual.norm(dim=-2).amax(-1) * scale


def _residual(
    A: Tensor, L: Tensor, R: Tensor, probes: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """(A − LR) Ω in float64, shape (..., m, probes), over a scale, and that scale (...)."""
    probes = integer("probes", probes, 1)
    scale = _finite_scale(A)
    shape = (*A.shape[:-2], A.shape[-1], probes)
    omega = torch.randn(shape, generator=generator, device=A.device, dtype=torch.float64)
    residual = (A.double() / scale) @ omega - (L.double() / scale) @ (R.double() @ omega)
    return residual, scale.squeeze((-2, -1))


def _finite_scale(A: Tensor) -> Tensor:
    """About the largest entry of A, in float64, so that squares are within its range."""
    check(A)
    refuse_not_finite(A)
    return power_of_two(A.double())


def _norm(M: Tensor) -> Tensor:
    return torch.linalg.vector_norm(M, dim=(-2, -1))

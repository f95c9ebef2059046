"""QB factorisation to a given precision, and estimates of approximation errors."""

import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from svdbench.arguments import integer, number

from .base import check, checked_rank, power_of_two, refuse_not_finite, working
from .gram import orthonormal


def projection_error(A: Tensor, B: Tensor) -> Tensor:
    """‖A − Q B‖_F, shape (...), from A (..., m, n) and B = Qᵀ A (..., l, n) with Q orthonormal.

    √(‖A‖² − ‖B‖²), summed in float64: exact, and needs neither Q nor a product with A. It is a
    difference of squares, so below about √eps ‖A‖ (3e-4 for float32, 1e-8 for float64) it is
    rounding error; use :func:`frobenius_error` there.

    Example:
        >>> A = torch.eye(3)
        >>> projection_error(A, A[:2])
        tensor(1.0000, dtype=torch.float64)

    Source: Yu, Gu and Li, SIAM J. Matrix Anal. Appl. 39(3), 2018, equation (4).
    """
    scale = _finite_scale(A)
    squares = [_norm(M.double() / scale).square() for M in (A, B)]
    return (squares[0] - squares[1]).clamp(min=0).sqrt() * scale.squeeze((-2, -1))


def frobenius_error(
    A: Tensor, L: Tensor, R: Tensor, *, probes: int = 20, generator: torch.Generator | None = None
) -> Tensor:
    """An estimate of ‖A − L R‖_F, shape (...), for A (..., m, n), L (..., m, l), R (..., l, n).

    For Gaussian ω, E‖(A − LR) ω‖² is the squared norm; the mean over ``probes`` samples is within a
    factor of 1 ± √(2/probes) of it, to one standard deviation. No squares are subtracted, so errors
    down to eps ‖A‖ are resolved. For an SVD, L is ``U * S[..., None, :]``.

    Source: Girard, "A fast Monte-Carlo cross-validation procedure", Numer. Math. 56, 1989.

    Raises:
        TypeError, ValueError: no matrix, NaN or infinity in A, or fewer than one probe.

    Example:
        >>> A, L, R = torch.ones(3, 3), torch.zeros(3, 1), torch.zeros(1, 3)
        >>> frobenius_error(A, L, R).shape
        torch.Size([])
    """
    residual, scale = _residual(A, L, R, probes, generator)
    return residual.square().sum(-2).mean(-1).sqrt() * scale


def spectral_error_bound(
    A: Tensor, L: Tensor, R: Tensor, *, probes: int = 10, generator: torch.Generator | None = None
) -> Tensor:
    """A bound on ‖A − L R‖₂, shape (...), that holds with probability 1 − 10^(−probes).

    It is 10 √(2/π) times the largest ‖(A − LR) ω‖ over ``probes`` Gaussian ω.

    Source: Halko, Martinsson and Tropp, SIAM Review 53(2), 2011, equation (4.3).

    Raises:
        TypeError, ValueError: no matrix, NaN or infinity in A, or fewer than one probe.

    Example:
        >>> A, L, R = torch.eye(3), torch.zeros(3, 1), torch.zeros(1, 3)
        >>> bool(spectral_error_bound(A, L, R) >= 1)
        True
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


class QB(NamedTuple):
    """A ≈ Q B.

    Attributes:
        Q: (..., m, r), orthonormal columns; r is the rank found, 0 for zero matrices.
        B: (..., r, n), QᵀA.
        error: (...), ‖A − QB‖_F / ‖A‖_F, computed as √(1 − ‖B‖²/‖A‖²).

    Example:
        >>> found = randqb(torch.randn(50, 5) @ torch.randn(5, 40), tolerance=0.01)
        >>> found.Q.shape, found.B.shape
        (torch.Size([50, 5]), torch.Size([5, 40]))
    """

    Q: Tensor
    B: Tensor
    error: Tensor


def randqb(
    A: Tensor,
    tolerance: float,
    *,
    block_size: int = 16,
    power_iterations: int = 1,
    max_rank: int | None = None,
    generator: torch.Generator | None = None,
) -> QB:
    """Factor A (..., m, n) ≈ Q B with ‖A − QB‖_F ≤ tolerance ‖A‖_F and as few columns as needed.

    Blocks of Gaussian probes extend Q; every block lowers ‖A‖² by ‖B_i‖², so the error is known
    without forming the residual. The last block is truncated at the row that reaches the tolerance.
    All matrices of a batch get the highest rank that any of them needs.

    Source: Yu, Gu and Li, "Efficient randomized algorithms for the fixed-precision low-rank
    matrix approximation", SIAM J. Matrix Anal. Appl. 39(3), 2018, Algorithm 2 (randQB_EI).

    Args:
        tolerance: relative error in the Frobenius norm, below 1, and not below √eps of the working
            precision (3.5e-4 for float32 and half, 1.5e-8 for float64): the error is a difference
            of squares, which rounding makes uncertain by eps/tolerance², relatively.
        block_size: number of columns added at a time.
        power_iterations: power iterations within each block; more give a smaller rank.
        max_rank: largest rank, with a ``RuntimeWarning`` if the tolerance is not reached.
        generator: random number generator of the probes, on A's device; None: PyTorch's default.

    Raises:
        TypeError: A is not a real floating-point tensor.
        ValueError: no matrix, NaN or infinity in A, or an option out of its range.

    Example:
        >>> A = torch.randn(50, 5) @ torch.randn(5, 40)
        >>> randqb(A, tolerance=0.01).Q.shape
        torch.Size([50, 5])
    """
    check(A)
    most = min(A.shape[-2:]) if max_rank is None else checked_rank(A, max_rank)
    block_size = integer("block_size", block_size, 1)
    power_iterations = integer("power_iterations", power_iterations, 0)
    tolerance = number("tolerance", tolerance)
    W = working(A)
    trusted = torch.finfo(W.dtype).eps ** 0.5
    if not trusted <= tolerance < 1:
        remedy = "; A.double() goes down to 1.5e-08" if W.dtype == torch.float32 else ""
        raise ValueError(
            f"tolerance is {tolerance}: an error in {W.dtype} can be told from rounding "
            f"between {trusted:.1e} and 1 only{remedy}"
        )
    refuse_not_finite(A)
    scale = power_of_two(W)  # powers of A, and squares, stay within the range of the dtype
    found = _blocks(W / scale, tolerance, block_size, power_iterations, most, generator)
    if not bool((found.error <= tolerance).all()):
        warnings.warn(
            f"rank {max_rank} leaves an error of {float(found.error.max()):.2g}, above the "
            f"tolerance of {tolerance:g}: allow a larger max_rank",
            RuntimeWarning,
            stacklevel=2,
        )
    B = (found.B * scale).to(A.dtype)
    if not B.isfinite().all():
        raise ValueError(f"B is too large for {A.dtype}: divide A by its largest entry")
    return QB(found.Q.to(A.dtype), B, found.error)


def _blocks(
    A: Tensor,
    tolerance: float,
    block: int,
    iterations: int,
    most: int,
    generator: torch.Generator | None,
) -> QB:
    *batch, m, n = A.shape
    Q, B = A.new_empty(*batch, m, 0), A.new_empty(*batch, 0, n)
    # Rows of B take this much away from ‖A‖², which a zero matrix has reached at once.
    total = A.double().square().sum((-2, -1))
    left = total.clone()
    while Q.shape[-1] < most and bool((left > tolerance**2 * total).any()):
        width = min(block, most - Q.shape[-1])
        omega = torch.randn((*batch, n, width), generator=generator, device=A.device, dtype=A.dtype)
        Y = A @ omega - Q @ (B @ omega)
        for _ in range(iterations):
            P, _ = orthonormal(Y)
            P, _ = orthonormal(A.mT @ P - B.mT @ (Q.mT @ P))
            Y = A @ P - Q @ (B @ P)
        new, _ = orthonormal(Y)
        new, _ = orthonormal(new - Q @ (Q.mT @ new))  # what rounding brought back of Q
        rows = new.mT @ A
        after = left.unsqueeze(-1) - rows.double().square().sum(-1).cumsum(-1)
        short = (after > tolerance**2 * total.unsqueeze(-1)).sum(-1)
        keep = min(int(short.max()) + 1, width)
        Q, B = torch.cat([Q, new[..., :keep]], -1), torch.cat([B, rows[..., :keep, :]], -2)
        left = after[..., keep - 1]
    error = (left.clamp(min=0) / torch.where(total > 0, total, 1.0)).sqrt()
    return QB(Q, B, error)

"""The truncated SVD, by the driver that is fastest for the shape."""

from functools import lru_cache

import torch
from torch import Tensor

from .base import SVD, checked_rank, factorise
from .gram import by_gram, by_lapack
from .randomized import by_probes, default_iterations, default_oversampling

DRIVERS = ("auto", "svd", "gram", "randomized")


def truncated_svd(A: Tensor, k: int, *, driver: str = "auto") -> SVD:
    """The best rank-k approximation A ≈ U diag(S) Vh of A (..., m, n), or a nearly optimal one.

    ``driver`` is one of

    * ``"svd"``: :func:`torch.linalg.svd`, truncated to k: exact;
    * ``"gram"``: :func:`~svdbench.lowrank.gram_svd`: exact, from an eigenproblem of the shorter
      side in float64;
    * ``"randomized"``: :func:`~svdbench.lowrank.randomized_svd` with its defaults:
      a Frobenius error of at most 1.01 of the best on all spectra that ``svdbench time-svd``
      measures;
    * ``"auto"``: the one that :func:`choose_driver` expects to be fastest, so within 1.01 of the
      best. Use ``"svd"`` or ``"gram"`` if that is not accurate enough.

    The probes of ``"randomized"`` are the same in every call, so that equal inputs give equal
    results; PyTorch's generator is not used.

    Returns:
        U (..., m, k), S (..., k) and Vh (..., k, n) in A's dtype; half precision is computed
        in float32. S can be differentiated, U and Vh cannot.

    Raises:
        TypeError: A is not a real floating-point tensor, or k not a whole number.
        ValueError: no matrix, k not in 1 … min(m, n), NaN or infinity in A, a singular value that
            is too large for A's dtype, or an unknown driver.

    Example:
        >>> A = torch.randn(50, 5) @ torch.randn(5, 40)
        >>> U, S, Vh = truncated_svd(A, k=5)
        >>> U.shape, S.shape, Vh.shape
        (torch.Size([50, 5]), torch.Size([5]), torch.Size([5, 40]))
    """
    if driver not in DRIVERS:
        raise ValueError(f"driver is {driver!r}: choose from {', '.join(DRIVERS)}")
    k = checked_rank(A, k)
    if driver == "auto":
        driver = choose_driver(*A.shape[-2:], k, A.device.type)
    solve = {"svd": by_lapack, "gram": by_gram, "randomized": _with_fixed_probes}[driver]
    return factorise(solve, A, k)


def _with_fixed_probes(A: Tensor, k: int) -> SVD:
    p = default_oversampling(k)
    generator = torch.Generator(A.device).manual_seed(0)
    return by_probes(A, k, k + p, default_iterations(k, p), generator)


@lru_cache
def choose_driver(m: int, n: int, k: int, device: str = "cpu") -> str:
    """The driver expected to be fastest for a matrix (m, n) and rank k: a name of ``DRIVERS``.

    On a CPU, the choice follows times measured from 8 × 8 to 2,048 × 2,048 in float32 on one core
    of a server CPU (AVX-512, MKL). Other machines scale all drivers roughly alike, and where two
    are close the choice matters little. On a GPU it follows a model that was not measured.

    Args:
        device: device type, "cpu" or "cuda".

    Example:
        >>> choose_driver(2048, 2048, 64) in ("svd", "gram", "randomized")
        True
    """
    probes = k + default_oversampling(k)
    if device == "cuda":
        expected = {"svd": _svd_us_on_gpu(m, n), "gram": _gram_us_on_gpu(m, n)}
        if probes < min(m, n):
            expected["randomized"] = _randomized_us_on_gpu(m, n, k)
    else:
        expected = {"svd": _svd_us(m, n), "gram": _gram_us(m, n, k)}
        if probes < min(m, n):
            expected["randomized"] = _randomized_us(m, n, k)
    return min(expected, key=lambda name: expected[name])


# Microseconds: calls, memory, the operations of c × c problems, products at 100 Gflop/s in
# float32 and 40 in float64. c is the shorter side, L the longer one.


def _svd_us(m: int, n: int) -> float:
    c, L = sorted((m, n))
    return 20 + 1.5 * c + 0.025 * c * L + 3.3e-4 * c**2 * L


def _gram_us(m: int, n: int, k: int) -> float:
    c, L = sorted((m, n))
    return 100 + 0.03 * c**2 + 2.9e-4 * c**3 + 5e-5 * (c + k) * c * L


def _randomized_us(m: int, n: int, k: int) -> float:
    c, L = sorted((m, n))
    l, q, bases = _passes(k)
    products = (2 * q + 2) * (4 + 2e-5 * c * L * l)
    orthonormal = bases * (12 + 1.5e-4 * c * l**2)
    shifts = 0 if q < 3 else q * (140 + 0.012 * l**2 + 1.4e-4 * l**3)
    return 60 + products + orthonormal + shifts + _gram_us(l, L, k)


def _passes(k: int) -> tuple[int, int, int]:
    """The probes, power iterations and orthonormal bases of a randomised SVD of rank k."""
    p = default_oversampling(k)
    q = default_iterations(k, p)
    return k + p, q, 2 * q + 1 if q < 3 else q + 1


# On a GPU operations wait for each other, and products cost next to nothing beside that: an
# eigenproblem reduces a column at a time, about 25 µs each (cuSOLVER's syevd), and Jacobi's SVD
# (gesvdj), which torch takes there, goes over all pairs of columns several times. Of products
# 10 Tflop/s in float64 are assumed; a call takes 10 µs.


def _svd_us_on_gpu(m: int, n: int) -> float:
    c, L = sorted((m, n))
    return 500 + 150 * c + 0.15 * c * L


def _eigenproblem_us_on_gpu(c: int) -> float:
    return 300 + 25 * c + 0.02 * c**2


def _gram_us_on_gpu(m: int, n: int) -> float:
    c, L = sorted((m, n))
    return 100 + _eigenproblem_us_on_gpu(c) + 4e-7 * c**2 * L


def _randomized_us_on_gpu(m: int, n: int, k: int) -> float:
    c, L = sorted((m, n))
    l, q, bases = _passes(k)
    products = (2 * q + 2) * (10 + 2e-7 * c * L * l)
    orthonormal = bases * (150 + 4e-7 * c * l**2)
    shifts = 0 if q < 3 else q * 0.7 * _eigenproblem_us_on_gpu(l)
    return products + orthonormal + shifts + _gram_us_on_gpu(l, L)

"""Fixed precision, and estimates of the error after the fact."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from svdbench.lowrank import (
    frobenius_error,
    projection_error,
    randqb,
    spectral_error_bound,
    truncated_svd,
)

F64, F32 = torch.float64, torch.float32


def decaying(m: int, n: int, ratio: float) -> Tensor:
    """Singular values 1, ratio, ratio², …"""
    U, V = (torch.linalg.qr(torch.randn(size, min(m, n), dtype=F64)).Q for size in (m, n))
    return (U * ratio ** torch.arange(min(m, n), dtype=F64)) @ V.mT


@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-6), (F64, 0.1), (F32, 1e-3)])
@pytest.mark.parametrize("shape", [(80, 60), (60, 80)])
@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25])
def test_reaches_the_tolerance_with_few_columns(
    dtype: torch.dtype, tolerance: float, shape: tuple[int, int], scale: float
) -> None:
    A = (decaying(*shape, 0.7) * scale).to(dtype)
    found = randqb(A, tolerance)
    Q, B, wide = found.Q.double(), found.B.double(), A.double()
    error = float((wide - Q @ B).norm() / wide.norm())
    rounding = torch.finfo(dtype).eps / tolerance**2  # of the difference of squares
    assert error <= tolerance * (1 + rounding)
    assert float(found.error) == pytest.approx(error, rel=0.01 + 2 * rounding)
    rank = Q.shape[-1]
    torch.testing.assert_close(Q.mT @ Q, torch.eye(rank, dtype=F64), atol=1e-5, rtol=0)
    values = torch.linalg.svdvals(wide)
    least = sum(float(values[r:].norm()) > tolerance * float(wide.norm()) for r in range(60))
    assert least <= rank <= least + 2


def test_a_batch_gets_the_rank_of_the_one_that_needs_most() -> None:
    A = torch.stack([decaying(40, 50, 0.3), decaying(40, 50, 0.8), torch.zeros(40, 50, dtype=F64)])
    found = randqb(A, 1e-3)
    assert found.Q.shape[-1] >= randqb(A[1], 1e-3).Q.shape[-1] - 2
    assert (found.error <= 1e-3).all()
    residual = (A - found.Q @ found.B).norm(dim=(-2, -1)) / A.norm(dim=(-2, -1)).clamp(min=1e-9)
    torch.testing.assert_close(residual, found.error, atol=1e-7, rtol=1e-3)


def test_zero_has_rank_zero_and_full_rank_ends() -> None:
    nothing = randqb(torch.zeros(5, 7), 0.1)
    assert nothing.Q.shape == (5, 0)
    assert nothing.B.shape == (0, 7)
    assert nothing.error == 0
    everything = randqb(torch.eye(20, dtype=F64), 1e-7, block_size=7)
    assert everything.Q.shape == (20, 20)
    assert everything.error < 1e-7


def test_rank_deficient() -> None:
    A = torch.randn(30, 4, dtype=F64) @ torch.randn(4, 50, dtype=F64)
    assert randqb(A, 1e-6).Q.shape[-1] == 4


def test_max_rank_warns() -> None:
    with pytest.warns(RuntimeWarning, match="rank 10 leaves an error of"):
        found = randqb(torch.eye(40), 0.1, max_rank=10)
    assert found.Q.shape == (40, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 1e-4}, r"float32 can be told .* A.double\(\) goes down to 1.5e-08"),
        ({"tolerance": 1.0}, "tolerance is 1.0"),
        ({"tolerance": math.nan}, "tolerance is nan"),
        ({"tolerance": 0.1, "block_size": 0}, "block_size is 0"),
        ({"tolerance": 0.1, "power_iterations": -1}, "power_iterations is -1"),
        ({"tolerance": 0.1, "max_rank": 9}, "rank 9 of a 4 × 5 matrix"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        randqb(torch.ones(4, 5), **options)


@pytest.mark.parametrize(
    ("tolerance", "options", "message"),
    [
        ("fine", {}, "tolerance is 'fine': give a number"),
        (0.1, {"block_size": 2.5}, "block_size is 2.5: give a whole number"),
        (0.1, {"power_iterations": True}, "power_iterations is True: give a whole number"),
        (0.1, {"max_rank": "3"}, "k is '3': give a whole number"),
    ],
)
def test_other_types_are_told(tolerance: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        randqb(torch.ones(4, 5), tolerance, **options)


def test_takes_numbers_of_any_library() -> None:
    A = decaying(40, 30, 0.5)
    found = randqb(
        A, np.float32(0.1), block_size=np.int64(4), power_iterations=torch.tensor(1), max_rank=30
    )
    assert float((A - found.Q @ found.B).norm() / A.norm()) <= 0.1


@pytest.mark.parametrize(("dtype", "scale"), [(F32, 3e37), (F32, 1e-39), (F64, 1e-310)])
def test_estimates_do_not_depend_on_the_scale(dtype: torch.dtype, scale: float) -> None:
    A = (decaying(40, 30, 0.8) * scale).to(dtype)
    found = randqb(A, 0.1)
    assert found.Q.isfinite().all()
    true = torch.linalg.matrix_norm(
        A.double() / scale - found.Q.double() @ (found.B.double() / scale)
    )
    estimate = frobenius_error(A, found.Q, found.B, probes=200) / scale
    torch.testing.assert_close(estimate, true, rtol=0.2, atol=0)
    torch.testing.assert_close(projection_error(A, found.B) / scale, true, rtol=1e-2, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_estimates_refuse_what_is_not_finite(value: float) -> None:
    A = torch.ones(4, 5)
    A[1] = value
    for estimate in (frobenius_error, spectral_error_bound):
        with pytest.raises(ValueError, match="NaN or infinite"):
            estimate(A, torch.ones(4, 1), torch.ones(1, 5))
    with pytest.raises(ValueError, match="NaN or infinite"):
        projection_error(A, torch.ones(1, 5))


def test_nan_and_too_fine_are_told() -> None:
    with pytest.raises(ValueError, match="NaN"):
        randqb(torch.full((4, 5), math.nan), 0.1)
    with pytest.raises(ValueError, match=r"between 1\.5e-08 and 1 only$"):
        randqb(torch.ones(4, 5, dtype=F64), 1e-9)


# ------------------------------------------------------------------ estimates


@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize("k", [3, 30])
def test_estimates_of_the_error(dtype: torch.dtype, k: int) -> None:
    A = torch.stack([decaying(60, 50, ratio) for ratio in (0.6, 0.9)]).to(dtype)
    U, S, Vh = truncated_svd(A, k, driver="svd")
    L = U * S.unsqueeze(-2)
    residual = A.double() - L.double() @ Vh.double()
    true = torch.linalg.matrix_norm(residual)
    estimate = frobenius_error(A, L, Vh, probes=200)
    torch.testing.assert_close(estimate, true, rtol=0.2, atol=0)
    bound = spectral_error_bound(A, L, Vh)
    norm = torch.linalg.matrix_norm(residual, 2)
    assert (bound >= norm).all()
    assert (bound <= 200 * norm).all()


def test_estimates_need_a_probe() -> None:
    A = torch.ones(4, 5)
    for estimate in (frobenius_error, spectral_error_bound):
        with pytest.raises(ValueError, match="probes is 0"):
            estimate(A, A[:, :1], A[:1], probes=0)

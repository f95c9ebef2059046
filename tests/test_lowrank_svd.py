"""Truncated and randomised SVD: right factors on easy and on nasty matrices, and clear errors."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from svdbench.jobs.time_svd import SPECTRA
from svdbench.jobs.time_svd.run import Spectra
from svdbench.lowrank import (
    SVD,
    choose_driver,
    gram_svd,
    projection_error,
    randomized_svd,
    truncated_svd,
)
from svdbench.lowrank.drivers.gram import cholesky_qr, orthonormal
from svdbench.lowrank.drivers.truncated import DRIVERS

F64, F32 = torch.float64, torch.float32


def random(*shape: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, dtype=F64).to(dtype)


def with_values(m: int, n: int, values: Tensor) -> Tensor:
    """A matrix with these singular values, in float64."""
    U, V = (torch.linalg.qr(random(size, len(values))).Q for size in (m, n))
    return (U * values) @ V.mT


def assert_is_svd(found: SVD, A: Tensor, k: int) -> None:
    """Shapes, dtype, orthonormal factors, and values that neither rise nor are negative."""
    m, n = A.shape[-2:]
    batch = A.shape[:-2]
    assert [t.shape for t in found] == [(*batch, m, k), (*batch, k), (*batch, k, n)]
    assert {t.dtype for t in found} == {A.dtype}
    U, S, Vh = (t.double() for t in found)
    atol = 50 * torch.finfo(A.dtype).eps * math.sqrt(max(m, n))
    eye = torch.eye(k, dtype=F64).expand(*batch, k, k)
    torch.testing.assert_close(U.mT @ U, eye, atol=atol, rtol=0)
    torch.testing.assert_close(Vh @ Vh.mT, eye, atol=atol, rtol=0)
    assert (S >= 0).all()
    assert (S.diff(dim=-1) <= atol * S.amax()).all()


def over_optimal(found: SVD, A: Tensor) -> float:
    U, S, Vh = (t.double() for t in found)
    least = torch.linalg.svdvals(A.double())[..., S.shape[-1] :].norm()
    return float((A.double() - (U * S.unsqueeze(-2)) @ Vh).norm() / least)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize("shape", [(40, 40), (25, 90), (90, 25), (3, 2, 60, 50)])
@pytest.mark.parametrize("k", [1, 7, 24])
def test_finds_the_best_or_nearly(
    driver: str, dtype: torch.dtype, shape: tuple[int, ...], k: int
) -> None:
    A = random(*shape, dtype=dtype)
    found = truncated_svd(A, k, driver=driver)
    assert_is_svd(found, A, k)
    if driver in ("svd", "gram"):
        S = torch.linalg.svdvals(A.double())[..., :k]
        tolerance = 100 * torch.finfo(dtype).eps
        torch.testing.assert_close(found.S.double(), S, atol=float(tolerance * S.max()), rtol=0)
    assert over_optimal(found, A) < (1.02 if driver in ("auto", "randomized") else 1 + 1e-5)


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(("m", "n", "k"), [(256, 256, 10), (256, 256, 64), (200, 400, 32)])
def test_randomized_comes_within_one_per_cent(spectrum: str, m: int, n: int, k: int) -> None:
    A = Spectra(m, n, seed=1).matrix(spectrum).float()
    found = randomized_svd(A, k)
    assert_is_svd(found, A, k)
    assert 1 - 1e-5 <= over_optimal(found, A) <= 1.01


NASTY: dict[str, Callable[[], Tensor]] = {
    "zero": lambda: torch.zeros(30, 40, dtype=F64),
    "rank one": lambda: random(30, 1) @ random(1, 40),
    "rank below k": lambda: random(30, 3) @ random(3, 40),
    "clustered": lambda: with_values(30, 40, 1 + 1e-13 * torch.arange(30, 0, -1, dtype=F64)),
    "identity": lambda: torch.eye(40, dtype=F64),
    "steep": lambda: with_values(30, 40, torch.logspace(0, -29, 30, dtype=F64)),
    "not contiguous": lambda: random(80, 60)[::2, 1::3].mT,
    "expanded": lambda: random(1, 40).expand(30, 40),
    "zero rows": lambda: torch.cat([random(10, 40), torch.zeros(20, 40, dtype=F64)]),
}


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize("name", NASTY)
def test_nasty_matrices(driver: str, dtype: torch.dtype, name: str) -> None:
    A = NASTY[name]().to(dtype)
    found = truncated_svd(A, 5, driver=driver)
    assert_is_svd(found, A, 5)
    S = torch.linalg.svdvals(A.double())[:5]
    nearly = driver == "randomized" and name == "not contiguous"  # of full rank, and flat
    tolerance = (0.05 if nearly else 1e4 * torch.finfo(dtype).eps) * float(S[0])
    torch.testing.assert_close(found.S.double(), S, atol=tolerance, rtol=0)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("dtype", "scale"), [(F64, 1e200), (F64, 1e-200), (F32, 1e30), (F32, 1e-30)]
)
@pytest.mark.parametrize("k", [4, 24])
def test_huge_and_tiny_scales(driver: str, dtype: torch.dtype, scale: float, k: int) -> None:
    A = random(90, 60)
    scaled = truncated_svd((A * scale).to(dtype), k, driver=driver)
    plain = truncated_svd(A.to(dtype), k, driver=driver)
    assert_is_svd(scaled, A.to(dtype), k)
    ratio = scaled.S.double() / plain.S.double() / scale
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-5, rtol=0)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(F32, 3e36), (F32, 1e-38), (F32, 1e-40), (F64, 1e306), (F64, 1e-310), (torch.float16, 1e3)],
)
@pytest.mark.parametrize("k", [3, 50])
def test_scales_at_the_ends_of_the_range(
    driver: str, dtype: torch.dtype, scale: float, k: int
) -> None:
    """Where squares, or sums of products, over- or underflow in the dtype itself."""
    A = (random(90, 60) * scale).to(dtype)
    found = truncated_svd(A, k, driver=driver)
    plain = (A.double() / scale).to(F64 if dtype == F64 else F32)
    S = truncated_svd(plain, k, driver=driver).S.double()
    # Less of a number is left, the nearer it is to the smallest of the dtype.
    rtol = max(1e-5, torch.finfo(dtype).smallest_normal * 1e-7 / scale, torch.finfo(dtype).eps)
    torch.testing.assert_close(found.S.double() / scale, S, rtol=rtol, atol=0)
    eye = torch.eye(k, dtype=F64)
    tolerance = 1e-4 if dtype != torch.float16 else 1e-2
    for Q in (found.U.mT, found.Vh):
        torch.testing.assert_close(Q.double() @ Q.double().mT, eye, atol=tolerance, rtol=0)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("dtype", "scale"), [(F32, 3e37), (F64, 1e307), (torch.float16, 6e3), (torch.bfloat16, 3e37)]
)
@pytest.mark.parametrize("k", [3, 50, 100])
def test_values_that_the_dtype_has_no_numbers_for(
    driver: str, dtype: torch.dtype, scale: float, k: int
) -> None:
    A = (random(300, 200) * scale).to(dtype)
    with pytest.raises(ValueError, match=f"singular value of A is too large for {dtype}"):
        truncated_svd(A, k, driver=driver)
    with pytest.raises(ValueError, match="too large for"):
        randomized_svd(torch.stack([A, torch.ones_like(A)]), k)


@pytest.mark.parametrize("driver", DRIVERS)
def test_one_row(driver: str) -> None:
    A = random(1, 9)
    for matrix in (A, A.mT):
        found = truncated_svd(matrix, 1, driver=driver)
        assert_is_svd(found, matrix, 1)
        assert found.S[0] == pytest.approx(float(A.norm()))


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(driver: str, dtype: torch.dtype) -> None:
    A = random(50, 40, dtype=dtype)
    found, wide = (truncated_svd(M, 6, driver=driver) for M in (A, A.float()))
    for half, single in zip(found, wide, strict=True):
        torch.testing.assert_close(half, single.to(dtype))


def test_float32_is_exact_where_its_own_square_would_lose_everything() -> None:
    values = torch.logspace(0, -6, 12, dtype=F64)
    A = with_values(20, 30, values).float()
    S = torch.linalg.svdvals(A.double())[:10]
    torch.testing.assert_close(gram_svd(A, 10).S.double(), S, rtol=2e-3, atol=0)
    assert_is_svd(gram_svd(A, 12), A, 12)


def test_digits_survive_a_steep_spectrum() -> None:
    """A Aᵀ at once would drown what is below √eps of the largest value."""
    values = torch.logspace(0, -5.5, 300, dtype=F64)
    A = with_values(300, 300, values).float()
    assert over_optimal(randomized_svd(A, 150, power_iterations=3), A) < 1.02


def test_more_iterations_and_probes_help() -> None:
    A = random(200, 200, dtype=F32)

    def error(p: int, q: int) -> float:
        torch.manual_seed(1)
        return over_optimal(randomized_svd(A, 20, oversampling=p, power_iterations=q), A)

    errors = [error(5, q) for q in (0, 1, 2, 4)]
    assert errors == sorted(errors, reverse=True)
    assert error(40, 1) < error(0, 1)
    assert randomized_svd(A, 20, oversampling=0, power_iterations=0).S.shape == (20,)


def test_a_generator_makes_it_repeatable() -> None:
    A = random(80, 70)

    def once(seed: int) -> SVD:
        return randomized_svd(A, 5, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(once(3).U, once(3).U)
    assert not torch.equal(once(3).U, once(4).U)


def test_truncated_leaves_the_generator_alone() -> None:
    A, state = random(80, 70), torch.get_rng_state()
    first, second = (truncated_svd(A, 5, driver="randomized") for _ in range(2))
    assert torch.equal(first.U, second.U)
    assert torch.equal(torch.get_rng_state(), state)


# ------------------------------------------------------------------ gradients


@pytest.mark.parametrize("driver", ["svd", "gram", "auto"])
def test_singular_values_have_their_gradient(driver: str) -> None:
    A = with_values(8, 11, torch.arange(8, 0, -1, dtype=F64)).requires_grad_()
    weights = random(3)
    (truncated_svd(A, 3, driver=driver).S * weights).sum().backward()
    B = A.detach().clone().requires_grad_()
    (torch.linalg.svdvals(B)[:3] * weights).sum().backward()
    torch.testing.assert_close(A.grad, B.grad)


def test_singular_vectors_say_that_they_have_none() -> None:
    A = random(8, 11).requires_grad_()
    for i in (0, 2):
        with pytest.raises(RuntimeError, match="differentiate S alone"):
            truncated_svd(A, 3)[i].sum().backward()
    with torch.no_grad():
        assert not truncated_svd(A, 3).U.requires_grad


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("A", "k", "error", "message"),
    [
        (torch.ones(3, 4), 4, ValueError, "rank 4 of a 3 × 4 matrix: choose from 1 … 3"),
        (torch.ones(3, 4), 0, ValueError, "choose from 1 … 3"),
        (torch.ones(3, 4), 1.5, TypeError, "k is 1.5: give a whole number"),
        (torch.ones(3), 1, ValueError, r"A has shape \(3,\)"),
        (torch.ones(0, 4), 1, ValueError, "no size 0"),
        (torch.ones(3, 4, dtype=torch.int64), 1, TypeError, "A.double"),
        (torch.ones(3, 4, dtype=torch.complex64), 1, TypeError, "real floating-point"),
        ([[1.0]], 1, TypeError, "A is list"),
    ],
)
@pytest.mark.parametrize("solve", [truncated_svd, gram_svd, randomized_svd])
def test_mistakes_are_told(
    solve: Callable[..., SVD], A: Tensor, k: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        solve(A, k)


@pytest.mark.parametrize("k", [np.int64(3), np.uint8(3), torch.tensor(3)])
@pytest.mark.parametrize("solve", [truncated_svd, gram_svd, randomized_svd])
def test_any_integer_is_a_rank(solve: Callable[..., SVD], k: Any) -> None:
    assert solve(random(10, 8), k).S.shape == (3,)


@pytest.mark.parametrize("k", [True, np.True_, torch.tensor(True), 2.0, np.float64(2), "2", None])
@pytest.mark.parametrize("solve", [truncated_svd, gram_svd, randomized_svd])
def test_nothing_else_is_one(solve: Callable[..., SVD], k: Any) -> None:
    with pytest.raises(TypeError, match=r"k is .*: give a whole number"):
        solve(random(10, 8), k)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("k", [2, 20])
def test_nan_is_told(driver: str, value: float, k: int) -> None:
    A = random(60, 50, dtype=F32)
    A[3, 4] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        truncated_svd(A, k, driver=driver)


def test_options_are_checked() -> None:
    A = random(5, 6)
    with pytest.raises(ValueError, match="driver is 'best': choose from auto"):
        truncated_svd(A, 2, driver="best")
    for option in ("oversampling", "power_iterations"):
        with pytest.raises(ValueError, match=f"{option} is -1: give 0 or more"):
            randomized_svd(A, 2, **{option: -1})


# ------------------------------------------------------------------ the parts


@pytest.mark.parametrize(("m", "n", "k"), [(15, 784, 10), (784, 15, 10), (12288, 100, 50)])
def test_thin_matrices_go_by_their_gram_matrix(m: int, n: int, k: int) -> None:
    assert choose_driver(m, n, k) == "gram"


def test_small_matrices_go_to_lapack_and_large_ones_to_probes() -> None:
    assert choose_driver(10, 15, 5) == "svd"
    assert choose_driver(2048, 2048, 256) == choose_driver(1024, 512, 32) == "randomized"


@pytest.mark.parametrize("basis", [orthonormal, cholesky_qr])
@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-5, 1e-9, 0.0])
def test_bases_are_orthonormal(
    basis: Callable[[Tensor], tuple[Tensor, Tensor]], dtype: torch.dtype, spread: float
) -> None:
    values = torch.logspace(0, math.log10(spread), 6, dtype=F64) if spread else torch.zeros(6)
    Y = torch.stack([with_values(30, 6, values), random(30, 6)]).to(dtype)
    Q, R = basis(Y)
    eps = torch.finfo(dtype).eps
    eye = torch.eye(6, dtype=dtype).expand(2, 6, 6)
    torch.testing.assert_close(Q.mT @ Q, eye, atol=20 * eps, rtol=0)
    torch.testing.assert_close(Q @ R, Y, atol=40 * eps, rtol=0)
    assert torch.equal(R, R.triu())


def test_projection_error_is_that_of_the_projection() -> None:
    A = random(3, 40, 30)
    Q, _ = orthonormal(A @ random(3, 30, 8))
    B = Q.mT @ A
    torch.testing.assert_close(projection_error(A, B), (A - Q @ B).norm(dim=(-2, -1)))

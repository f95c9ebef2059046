"""What every driver for the truncated SVD must do."""

from dataclasses import replace

import torch
from torch import Tensor

from svdbench.contract import (
    Contract,
    Make,
    NotAsked,
    expect,
    expect_reason,
    expect_tensor,
    expect_texts,
    plain_dtype,
)
from svdbench.jobs.time_svd import SPECTRA
from svdbench.jobs.time_svd.drivers import SVDDriver, SVDProblem
from svdbench.jobs.time_svd.gate import Exact, check_factors
from svdbench.jobs.time_svd.run import Spectra

CONTRACT = Contract()
K = 4
SHAPES = ((30, 45), (45, 30))


def factors(driver: SVDDriver, A: Tensor, k: int = K) -> tuple[Tensor, Tensor, Tensor]:
    """U, S and Vh as the job takes them, or :class:`NotAsked` where the driver skips."""
    m, n = A.shape
    case = SVDProblem(m, n, k, "step", A.dtype)
    if reason := driver.skip(case):
        raise NotAsked(reason)
    return driver.result(driver.apply(driver.given(A), k))


@CONTRACT.question("says what it is: source and exact")
def described(make: Make) -> None:
    driver = make()
    expect_texts(driver, "source")
    exact = getattr(driver, "exact", None)
    advice = "set exact = True if it promises the best approximation, else False"
    expect(isinstance(exact, bool), f"exact is {exact!r}", advice)


@CONTRACT.question("returns U (m, k), S (k,) and Vh (k, n) of the dtype and device of A")
def shapes(make: Make) -> None:
    for (m, n), dtype in zip(SHAPES, (torch.float32, torch.float64), strict=True):
        A = Spectra(m, n, seed=0).matrix("step").to(dtype)
        found = factors(make(), A)
        expect(len(found) == 3, f"apply returned {len(found)} factors", "return U, S, Vh")
        for name, factor, shape in zip(
            ("U", "S", "Vh"), found, ((m, K), (K,), (K, n)), strict=True
        ):
            expect_tensor(factor, name, shape, A)


@CONTRACT.question(
    "is orthonormal, descending and as near as it promises, for every spectrum",
    "return the k largest triplets in descending order; set exact = False if the error may be "
    "above the least",
)
def right(make: Make) -> None:
    for name in SPECTRA:
        for (m, n), dtype in zip(SHAPES, (torch.float64, torch.float32), strict=True):
            A = Spectra(m, n, seed=0).matrix(name).to(dtype)
            driver = make()
            verdict = check_factors(factors(driver, A), Exact.of(A), K, dtype, driver.exact)
            where = f"{m} × {n}, spectrum {name}, {plain_dtype(dtype)}"
            expect(verdict.ok, f"{where}: {verdict.reason}")
            expect(
                verdict.over_optimal < 1.5,
                f"{where}: the error is {verdict.over_optimal:.2f} times the least",
                "add probes or power iterations",
            )


@CONTRACT.question("leaves A unchanged", "work on a copy of what given returns")
def input_unchanged(make: Make) -> None:
    A = torch.randn(30, 45)
    before = A.clone()
    factors(make(), A)
    expect(torch.equal(A, before), "A has other values after apply")


@CONTRACT.question("takes a matrix that is not contiguous", "call .contiguous() in given")
def strides(make: Make) -> None:
    A = Spectra(45, 30, seed=0).matrix("step").float().T
    driver = make()
    verdict = check_factors(factors(driver, A), Exact.of(A), K, A.dtype, driver.exact)
    expect(verdict.ok, verdict.reason)


@CONTRACT.question("skips what it cannot do with a sentence")
def skips(make: Make) -> None:
    case = SVDProblem(30, 45, K, "step")
    for each in (case, replace(case, dtype=torch.bfloat16), replace(case, k=30)):
        expect_reason(make().skip(each))


@CONTRACT.question(
    "runs in half precision, or says why not",
    "return a reason from skip where case.dtype.itemsize < 4",
)
def half(make: Make) -> None:
    A = Spectra(30, 45, seed=0).matrix("step").to(torch.bfloat16)
    driver = make()
    verdict = check_factors(factors(driver, A), Exact.of(A), K, A.dtype, driver.exact)
    expect(verdict.ok, verdict.reason)

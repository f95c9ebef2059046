"""The model of a step on a GPU: what it says of the cases that are asked for."""

from itertools import product

import pytest

pytest.importorskip("triton", reason="Triton is not installed: Linux only")

from promises import gpu_model, gpu_plans

from svdbench.kernels.plans import Case, formula


@pytest.mark.parametrize(("n", "d", "m"), gpu_model.CASES)
def test_modelled_steps_are_as_short_as_asked(n: int, d: int, m: int) -> None:
    k = formula(Case(n, d, m, "float32", "cuda H200", 0)).block_size
    assert gpu_model.on_gpu(n, d, m, k, "bf16x6") <= gpu_model.CASES[n, d, m]
    assert gpu_model.on_host(n, d, m, k, "kept") <= gpu_model.CASES[n, d, m]


@pytest.mark.parametrize(("precision", "most"), [("bf16x6", 2048), ("ieee", 1024)])
def test_the_formula_is_near_the_best_of_the_model(precision: str, most: int) -> None:
    """Among kernels for small blocks, tiles and cuBLAS, with few reflectors and with many.

    Without tensor cores, of which the formula knows nothing, cuBLAS is ahead with more columns.
    """
    columns = [m for m in gpu_plans.COLUMNS if m <= most]
    for d, m in product(gpu_plans.SIZES, columns):
        for n in (d, d // 4):
            times, chosen, best = gpu_plans.regret(n, d, m, precision)
            assert times <= 1.2, (n, d, m, chosen, best)

"""The model of a step on a GPU: what it says of the cases that are asked for."""

import pytest

pytest.importorskip("triton", reason="Triton is not installed: Linux only")

from promises import gpu_model

from svdbench.kernels.plans import Case, candidates, formula


@pytest.mark.parametrize(("n", "d", "m"), [(448, 448, 32), (1024, 1024, 32)])
def test_modelled_steps_are_as_short_as_asked(n: int, d: int, m: int) -> None:
    k = formula(Case(n, d, m, "float32", "cuda H200", 0)).block_size
    assert gpu_model.on_gpu(n, d, m, k, "bf16x6") <= gpu_model.CASES[n, d, m]
    assert gpu_model.on_host(n, d, m, k, "kept") <= gpu_model.CASES[n, d, m]


@pytest.mark.parametrize(("n", "d", "m"), gpu_model.CASES)
def test_the_formula_is_near_the_best_of_the_model(n: int, d: int, m: int) -> None:
    case = Case(n, d, m, "float32", "cuda H200", 0)
    tiled = [plan.block_size for plan in candidates(case) if plan.sweep == "tiles"]
    best = min(gpu_model.on_gpu(n, d, m, k, "bf16x6") for k in tiled if k <= 2 * n)
    assert formula(case).sweep == "tiles"
    assert gpu_model.on_gpu(n, d, m, formula(case).block_size, "bf16x6") <= 1.2 * best

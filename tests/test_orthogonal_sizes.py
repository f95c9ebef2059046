"""``orthogonal`` over grids of sizes, as of torch-householder and geotorch."""

import pytest
import torch
from orthonormal import DTYPES, error_of, near, q_factor, tolerance
from torch import nn

from svdbench.nn import orthogonal

pytestmark = pytest.mark.usefixtures("one_thread")


def check_size(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    module = nn.Module()
    torch.manual_seed(sum(shape))
    module.weight = nn.Parameter(torch.randn(shape, dtype=dtype))
    first = module.weight.detach().clone()
    orthogonal(module)
    assert near(module.weight, q_factor(first))
    module.weight = W = q_factor(torch.randn(shape, dtype=dtype))
    assert near(module.weight, W)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    (module.weight * torch.randn_like(W)).sum().abs().backward()
    optimizer.step()
    assert error_of(module.weight) <= tolerance(module.weight)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(), (1,), (2, 3)])
def test_all_small_sizes(batch: tuple[int, ...], dtype: torch.dtype):
    for rows in range(1, 6):
        for columns in range(1, 6):
            check_size((*batch, rows, columns), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 2, 7, 8, 16, 31, 32, 33, 64, 100, 257])
def test_the_grid_of_torch_householder(d: int, dtype: torch.dtype):
    for r in sorted({1, 2, d // 2, d - 1, d} & set(range(1, d + 1))):
        for batch in [(), (3,)] if d < 100 else [()]:
            check_size((*batch, d, r), dtype)
            check_size((*batch, r, d), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(), (1,), (2,), (2, 3), (3, 1, 2)])
def test_the_sizes_of_geotorch(batch: tuple[int, ...], dtype: torch.dtype):
    for rows in range(1, 10):
        for columns in range(1, 10):
            check_size((*batch, rows, columns), dtype)
    for layer in (nn.Linear(7, 3), nn.Linear(3, 7), nn.Conv2d(6, 4, 3), nn.Conv1d(3, 2, 5)):
        orthogonal(layer.to(dtype))
        assert error_of(layer.weight) <= tolerance(layer.weight)

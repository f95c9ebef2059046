"""Large blocks by tiles, run by Triton's interpreter, against reflectors in float64."""

import os

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed: Linux only")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("a GPU is here: test_gpu.py runs the kernels on it", allow_module_level=True)

from svdbench.kernels import (
    Plan,
    apply_reflectors,
    apply_reflectors_reference,
    triton_tile_gradient,
    triton_tile_sweep,
    triton_tiles,
    triton_wy,
)
from svdbench.kernels.apply import Apply
from svdbench.kernels.plans import triton_plan
from svdbench.kernels.triton_launch import ProductSizes, Recipe
from svdbench.kernels.triton_support import LEAST_PROGRAMS, TILED_BLOCK_SIZES
from svdbench.kernels.triton_tile_factors import (
    gram_parts,
    gram_size,
    tile_factor_launches,
    tiles_above,
)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of the poison

TILED = Plan(128, sweep="tiles")


def inputs(
    *shape: int, p: tuple[int, ...] = (), dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """V and X, which want gradients, and the gradient G at the product."""
    n, d, m = shape
    V, X, G = (torch.randn(*p, *size, dtype=dtype) for size in ((n, d), (d, m), (d, m)))
    return [V.requires_grad_(), X.requires_grad_(), G]


def errors(V: Tensor, X: Tensor, G: Tensor, plan: Plan, transpose: bool = False) -> list[float]:
    """Of the product and both gradients, the rows of that at V taken at length one."""
    out = Apply.apply(V, X, None, plan, transpose)
    found = out.detach(), *torch.autograd.grad(out, (V, X), G)
    wide = [t.detach().double().requires_grad_() for t in (V, X)]
    exact = apply_reflectors_reference(*wide, transpose=transpose)
    right = exact.detach(), *torch.autograd.grad(exact, wide, G.double())
    lengths = V.detach().double().norm(dim=-1, keepdim=True)
    scales = 1, lengths, 1
    sizes = 0, float(X.detach().norm() * G.norm()), 0  # the gradient at V may be zero
    return [
        float(((a - b) * s).norm() / ((b * s).norm() + size))
        for a, b, s, size in zip(found, right, scales, sizes, strict=True)
    ]


def tolerance(V: Tensor) -> float:
    """As in test_kernels: 10·max(n, d)·eps."""
    return 10 * max(V.shape[-2:]) * torch.finfo(torch.float32).eps


class TestStep:
    @pytest.mark.parametrize(
        ("shape", "k", "transpose"),
        [
            ((17, 1, 5), 128, False),
            ((17, 1, 5), 128, True),
            ((1, 17, 1), 128, False),
            ((1, 17, 1), 128, True),
            # Two blocks, one of a single row, and two parts of d.
            ((129, 131, 9), 128, False),
            ((129, 131, 9), 128, True),
            # More columns than WIDE, and two parts of a block.
            ((140, 17, 65), 256, False),
            pytest.param((140, 17, 65), 256, True, marks=pytest.mark.slow),
            # More columns than NARROW.
            pytest.param((260, 17, 257), 256, False, marks=pytest.mark.slow),
            ((260, 17, 257), 256, True),
        ],
    )
    def test_odd_shapes(
        self, shape: tuple[int, int, int], k: int, transpose: bool, poisoned: None
    ) -> None:
        V, X, G = inputs(*shape)
        assert max(errors(V, X, G, Plan(k, "tiles"), transpose)) < tolerance(V)

    @pytest.mark.parametrize("transpose", [False, True])
    def test_batch(self, transpose: bool, poisoned: None) -> None:
        V, X, G = inputs(130, 18, 3, p=(2,))
        assert max(errors(V, X, G, TILED, transpose)) < tolerance(V)

    @pytest.mark.parametrize("transpose", [False, True])
    def test_segments_take_turns(
        self, transpose: bool, poisoned: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(triton_tiles, "SEGMENT", 1)
        monkeypatch.setattr(triton_wy, "_recipe", triton_wy._recipe.__wrapped__)
        V, X, G = inputs(2 * 128 + 5, 3, 2)
        assert max(errors(V, X, G, TILED, transpose)) < tolerance(V)
        with torch.no_grad():  # two states then take turns
            out = Apply.apply(V, X, None, TILED, transpose)
        kept = Apply.apply(V, X, None, TILED, transpose)
        assert torch.equal(out, kept)
        only_X = Apply.apply(V.detach(), X, None, TILED, transpose)
        ours, theirs = (torch.autograd.grad(each, X, G)[0] for each in (only_X, kept))
        assert torch.equal(ours, theirs)

    def test_segments(self, poisoned: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(triton_tiles, "SEGMENT", 2)
        V, X, G = inputs(300, 5, 2, p=(2,))
        assert max(errors(V, X, G, TILED)) < tolerance(V)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision(self, dtype: torch.dtype, poisoned: None) -> None:
        V, X, G = inputs(20, 18, 6, dtype=dtype)
        assert max(errors(V, X, G, TILED)) < torch.finfo(dtype).eps

    def test_only_what_is_asked_for(self, poisoned: None) -> None:
        V, X, G = inputs(300, 9, 4)
        both = torch.autograd.grad(Apply.apply(V, X, None, TILED, False), (V, X), G)
        only_V = Apply.apply(V, X.detach(), None, TILED, False)
        only_X = Apply.apply(V.detach(), X, None, TILED, False)
        assert torch.equal(only_V, only_X)
        assert torch.equal(torch.autograd.grad(only_V, V, G)[0], both[0])
        assert torch.equal(torch.autograd.grad(only_X, X, G)[0], both[1])

    @pytest.mark.parametrize("n", [20, 130])
    def test_compiled(self, n: int) -> None:
        V, X, G = inputs(n, 16, 3)
        compiled = torch.compile(apply_reflectors, backend="aot_eager", fullgraph=True)
        out = compiled(V, X, block_size=128, backend="triton")
        eager = Apply.apply(V, X, None, TILED, False)
        assert torch.equal(out, eager)
        found = torch.autograd.grad(out, (V, X), G), torch.autograd.grad(eager, (V, X), G)
        assert all(map(torch.equal, *found))


class TestHostileInputs:
    @pytest.mark.parametrize("power", [-38, -30, 30])
    def test_badly_scaled(self, power: int, poisoned: None) -> None:
        V, X, _ = inputs(20, 12, 3)
        V = V.detach() * 10.0**power
        exact = apply_reflectors_reference(V.double(), X.double())
        error = Apply.apply(V, X, None, TILED, False) - exact
        assert float((error.norm() / exact.norm()).detach()) < tolerance(V)

    def test_scales_mixed_and_zero_rows(self, poisoned: None) -> None:
        V, X, G = inputs(40, 24, 4)
        V = V.detach() * torch.logspace(-18, 18, 40)[:, None]
        V[[0, 5, 39]] = 0
        V.requires_grad_()
        assert max(errors(V, X, G, TILED)) < tolerance(V)
        dV = torch.autograd.grad(Apply.apply(V, X, None, TILED, False), V, G)[0]
        assert torch.equal(dV[[0, 5, 39]], torch.zeros(3, 24))

    def test_nan_is_not_hidden(self) -> None:
        V = torch.randn(8, 6)
        V[2, 3] = torch.nan
        assert Apply.apply(V, torch.randn(6, 2), None, TILED, False).isnan().any()


@pytest.mark.parametrize(
    ("k", "d"),
    [(128, 20), (256, 20), pytest.param(512, 20, marks=pytest.mark.slow), (256, 300)],
)
def test_factors_are_the_inverse_of_the_half_triangle(k: int, d: int, poisoned: None) -> None:
    V = torch.randn(1, k + 3, d)
    V[:, 3] = 0
    sizes = ProductSizes(1, k + 3, d, 0, k)
    scale, S, T = torch.empty(1, 2, k), torch.empty(gram_size(sizes)), torch.empty(1, 2, k, k)
    launches = tile_factor_launches(sizes, "ieee")
    Recipe(launches, dict.fromkeys(("V", "scale", "S", "T"))).run(V, scale, S, T)
    B = (torch.nn.functional.pad(V, (0, 0, 0, k - 3)).view(1, 2, k, d) * scale[..., None]).double()
    half = (B @ B.mT).triu()
    diagonal = half.diagonal(dim1=-2, dim2=-1).mul_(0.5)
    diagonal.masked_fill_(diagonal == 0, 1)
    exact = torch.linalg.inv(half)
    # What lies below the diagonal has no meaning, and may be poison.
    error = torch.where(torch.ones(k, k).triu() > 0, T - exact, 0)
    assert float(error.norm() / exact.norm()) < 100 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize(
    ("n", "d", "m"), [(448, 448, 32), (512, 512, 32), (1024, 1024, 32), (2048, 2048, 128)]
)
def test_a_chip_is_busy_in_every_launch(n: int, d: int, m: int) -> None:
    """At least 64 programs, not counting those for rows that only fill the last block."""
    k, part = min(512, n), triton_tiles.part_of(512, m)
    parts = triton_tile_sweep.parts_of(1, 512, d, m)
    assert triton_tile_sweep.rows_programs(1, k, m, parts) >= 64
    assert triton_tile_sweep.triangle_programs(1, k, m) >= 64
    assert triton_tile_sweep.update_programs(1, d, m) >= 64
    assert triton_tile_gradient.gradient_programs(n // part, part, d) >= 64
    sizes = ProductSizes(1, n, d, m, 512)
    assert sizes.blocks * tiles_above(512) * gram_parts(sizes) >= 64


@pytest.mark.parametrize("d", [448, 480, 512, 576, 640, 768, 1000, 1024, 1536, 2048, 3072])
def test_every_launch_has_many_programs(d: int) -> None:
    """But for the inverse of the tiles on the diagonal, a chain of products that each wait."""
    sizes = ProductSizes(1, d, d, 32, triton_plan(d, d, 32).block_size)
    step = (
        triton_tiles.forward_pass(sizes, torch.float32, False, True, "ieee"),
        triton_tiles.backward_pass(sizes, torch.float32, False, True, "ieee"),
    )
    launches = [launch for each in step for launch in each.recipe.launches]
    few = {launch.kernel.__name__ for launch in launches if launch.grid < LEAST_PROGRAMS}
    assert few <= {"invert_kernel"}


def test_what_is_kept_is_bounded() -> None:
    """No state for one part, for several one a part, and twice as much as V at most."""
    for n, states in ((128, 0), (129, 2), (512, 4), (513, 5)):
        for k in TILED_BLOCK_SIZES:
            kept = triton_tiles.kept_sizes(ProductSizes(1, n, 4, 2, k), keep=True)
            assert kept["states"] == states * 4 * 2
    wide = triton_tiles.kept_sizes(ProductSizes(1, 2048, 512, 256, 512), keep=True)
    assert wide["states"] == 2 * 2048 * 512
    wider = triton_tiles.kept_sizes(ProductSizes(1, 2048, 512, 1024, 512), keep=True)
    assert wider["states"] == 4 * 512 * 1024


def test_the_plan_that_backend_triton_means() -> None:
    assert triton_plan(256, 256, 32) == Plan(16, "triton")
    assert triton_plan(256, 256, 1024) == Plan(256, "tiles")
    assert triton_plan(64, 256, 1024) == Plan(128, "tiles")
    assert triton_plan(16, 64, 1024) == Plan(16, "triton")
    assert triton_plan(448, 448, 32) == Plan(512, "tiles")
    assert triton_plan(2048, 2048, 128) == Plan(512, "tiles")
    assert triton_plan(1024, 1024, 512) == Plan(256, "tiles")
    assert triton_plan(768, 768, 32) == Plan(256, "tiles")
    assert triton_plan(40, 301, 32) == Plan(64, "triton")
    assert triton_plan(40, 301, 32, 128) == Plan(128, "tiles")
    sizes = {triton_plan(9, 9, 1, k).block_size for k in TILED_BLOCK_SIZES}
    assert sizes == set(TILED_BLOCK_SIZES)

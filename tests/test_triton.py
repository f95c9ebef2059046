"""The Triton kernels, run on the CPU by Triton's interpreter, against reflectors in float64.

On a machine with a GPU the same is checked there, on the device: see test_gpu.py.
"""

import itertools
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
    choice,
    plans,
    triton_precision,
    triton_sweep,
    triton_wy,
    ut,
)
from svdbench.kernels.apply import Apply
from svdbench.kernels.triton_ut import factors

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of the poison


def inputs(
    n: int, d: int, m: int, dtype: torch.dtype = torch.float32, batch: tuple[int, ...] = ()
) -> tuple[Tensor, Tensor, Tensor]:
    V = torch.randn(*batch, n, d, dtype=dtype).requires_grad_()
    X = torch.randn(*batch, d, m, dtype=dtype).requires_grad_()
    return V, X, torch.randn(*batch, d, m, dtype=dtype)


def errors(V: Tensor, X: Tensor, G: Tensor, out: Tensor, transpose: bool = False) -> list[float]:
    """Of the product and both gradients, relative to float64 in the Frobenius norm.

    The gradient at a row goes with 1/‖v‖, so rows are compared at length one.
    """
    V64, X64 = V.detach().double().requires_grad_(), X.detach().double().requires_grad_()
    exact = apply_reflectors_reference(V64, X64, transpose=transpose)
    dV, dX = torch.autograd.grad(out, (V, X), G)
    dV64, dX64 = torch.autograd.grad(exact, (V64, X64), G.double())
    lengths, size = V64.detach().norm(dim=-1, keepdim=True), X64.norm() * G.double().norm()
    found = (
        (out - exact).norm() / exact.norm(),
        ((dV - dV64) * lengths).norm() / ((dV64 * lengths).norm() + size),  # it may be zero
        (dX - dX64).norm() / dX64.norm(),
    )
    return [float(error.detach()) for error in found]


def tolerance(V: Tensor) -> float:
    """As in test_kernels: 10·max(n, d)·eps."""
    return 10 * max(V.shape[-2:]) * torch.finfo(torch.float32).eps


class TestStep:
    @pytest.mark.parametrize("k", [16, 32, 64])
    @pytest.mark.parametrize("transpose", [False, True])
    @pytest.mark.parametrize(
        "shape", [(1, 17, 1), (17, 1, 5), (63, 63, 17), (100, 63, 33), (5, 100, 2)]
    )
    def test_every_block_size(
        self, k: int, transpose: bool, shape: tuple[int, int, int], poisoned: None
    ) -> None:
        V, X, G = inputs(*shape)
        out = Apply.apply(V, X, None, Plan(k, sweep="triton"), transpose)
        assert max(errors(V, X, G, out, transpose)) < tolerance(V)

    @pytest.mark.parametrize("transpose", [False, True])
    def test_streamed_as_resident(
        self, transpose: bool, monkeypatch: pytest.MonkeyPatch, poisoned: None
    ) -> None:
        monkeypatch.setattr(triton_sweep, "RESIDENT_LENGTH", 0)
        monkeypatch.setattr(triton_wy, "_recipe", triton_wy._recipe.__wrapped__)
        V, X, G = inputs(40, 100, 18)
        out = Apply.apply(V, X, None, Plan(16, sweep="triton"), transpose)
        assert max(errors(V, X, G, out, transpose)) < tolerance(V)
        with torch.no_grad():  # the state then has one place, the output
            assert torch.equal(out, apply_reflectors(V, X, backend="triton", transpose=transpose))

    @pytest.mark.parametrize("k", [16, 32])
    def test_batch(self, k: int, poisoned: None) -> None:
        V, X, G = inputs(20, 33, 3, batch=(3,))
        out = apply_reflectors(V, X, block_size=k, backend="triton")
        assert max(errors(V, X, G, out)) < tolerance(V)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_read_as_it_is(self, dtype: torch.dtype, poisoned: None) -> None:
        V, X, G = inputs(40, 30, 6, dtype)
        out = apply_reflectors(V, X, backend="triton")
        assert out.dtype == dtype
        assert {g.dtype for g in torch.autograd.grad(out, (V, X), G, retain_graph=True)} == {dtype}
        # The interpreter sees operands rounded to TF32, which half precision fits in.
        assert max(errors(V, X, G, out)) < torch.finfo(dtype).eps

    def test_only_what_is_asked_for(self, poisoned: None) -> None:
        V, X, G = inputs(20, 16, 4)
        both = torch.autograd.grad(apply_reflectors(V, X, backend="triton"), (V, X), G)
        only_V = apply_reflectors(V, X.detach(), backend="triton")
        only_X = apply_reflectors(V.detach(), X, backend="triton")
        assert torch.equal(torch.autograd.grad(only_V, V, G)[0], both[0])
        assert torch.equal(torch.autograd.grad(only_X, X, G)[0], both[1])

    def test_strided_inputs(self, poisoned: None) -> None:
        V = torch.randn(12, 20).T[::2, 1:].detach().requires_grad_()
        X = torch.randn(4, 11).T.detach().requires_grad_()
        out = apply_reflectors(V, X, backend="triton")
        assert max(errors(V, X, torch.ones(()).expand(11, 4), out)) < tolerance(V)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    def test_addresses_at_any_offset(self, dtype: torch.dtype, poisoned: None) -> None:
        n, d, m = 18, 20, 3
        V = torch.randn(n * d + 1).to(dtype)[1:].view(n, d).requires_grad_()
        X = torch.randn(d * m + 3).to(dtype)[3:].view(d, m).requires_grad_()
        G = torch.randn(d * m + 1).to(dtype)[1:].view(d, m)
        for k in (16, 64):
            out = apply_reflectors(V, X, block_size=k, backend="triton")
            most = tolerance(V) if dtype == torch.float32 else torch.finfo(dtype).eps
            assert max(errors(V, X, G, out)) < most

    @pytest.mark.parametrize("k", [16, 32])
    def test_half_precision_is_rounded_once(
        self, k: int, poisoned: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The products of both in TF32.
        monkeypatch.setattr(triton_precision, "_read_setting", lambda *_: "tf32")
        V, X, G = inputs(20, 33, 5, torch.float16)  # the interpreter truncates to bfloat16
        wide = [t.detach().float().requires_grad_() for t in (V, X)]
        plan = Plan(k, sweep="triton")
        outs = Apply.apply(V, X, None, plan, False), Apply.apply(*wide, None, plan, False)
        ours = outs[0], *torch.autograd.grad(outs[0], (V, X), G)
        theirs = outs[1], *torch.autograd.grad(outs[1], wide, G.float())
        for low, full in zip(ours, theirs, strict=True):
            assert torch.equal(low, full.half())

    def test_second_derivatives_are_those_of_the_plain_operations(self) -> None:
        V, X, G = inputs(5, 4, 2)
        first = [
            torch.autograd.grad(apply_reflectors(V, X, backend=backend), V, G, create_graph=True)[0]
            for backend in ("triton", "wy")
        ]
        ours, theirs = (torch.autograd.grad(g.square().sum(), V)[0] for g in first)
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3)

    def test_compiled(self) -> None:
        V, X, G = inputs(20, 16, 3)
        compiled = torch.compile(apply_reflectors, backend="aot_eager", fullgraph=True)
        assert max(errors(V, X, G, compiled(V, X, backend="triton"))) < tolerance(V)


class TestHostileInputs:
    @pytest.mark.parametrize("k", [16, 64])
    def test_zero_rows(self, k: int, poisoned: None) -> None:
        V, X, G = inputs(40, 24, 5)
        with torch.no_grad():
            V[[0, 5, 6, 39]] = 0
        out = apply_reflectors(V, X, block_size=k, backend="triton")
        assert max(errors(V, X, G, out)) < tolerance(V)
        again = apply_reflectors(V, X, block_size=k, backend="triton")
        dV = torch.autograd.grad(again, V, G)[0]
        assert torch.equal(dV[[0, 5, 6, 39]], torch.zeros(4, 24))

    def test_all_rows_zero(self) -> None:
        X = torch.randn(6, 2)
        assert torch.equal(apply_reflectors(torch.zeros(9, 6), X, backend="triton"), X)

    @pytest.mark.parametrize("power", [-38, -30, -18, 18, 30])
    def test_badly_scaled(self, power: int) -> None:
        V, X, _ = inputs(32, 24, 3)
        exact = apply_reflectors_reference(V.double(), X.double())
        scaled = V.detach() * 10.0**power
        # Below 1e-38 numbers have fewer digits: H(v) is that of the rounded v.
        if power == -38:
            exact = apply_reflectors_reference(scaled.double(), X.double())
        error = apply_reflectors(scaled, X, backend="triton") - exact
        assert float((error.norm() / exact.norm()).detach()) < tolerance(V)

    def test_scales_mixed(self) -> None:
        V, X, G = inputs(32, 24, 4)
        V = (V.detach() * torch.logspace(-18, 18, 32)[:, None]).requires_grad_()
        for k in (16, 32):
            out = apply_reflectors(V, X, block_size=k, backend="triton")
            assert max(errors(V, X, G, out)) < tolerance(V)

    def test_nearly_parallel(self) -> None:
        V, X, G = inputs(64, 24, 4)
        V = (torch.randn(24) + 1e-3 * V.detach()).requires_grad_()
        out = apply_reflectors(V, X, block_size=64, backend="triton")
        assert errors(V, X, G, out)[0] < tolerance(V)

    def test_nan_is_not_hidden(self) -> None:
        V = torch.randn(8, 6)
        V[2, 3] = torch.nan
        assert apply_reflectors(V, torch.randn(6, 2), backend="triton").isnan().any()


class TestFactors:
    @pytest.mark.parametrize(
        ("n", "d", "k"),
        [
            *((5, 7, 16), (40, 33, 32), (64, 64, 64), (100, 50, 128), (300, 30, 256)),
            pytest.param(400, 64, 512, marks=pytest.mark.slow),
        ],
    )
    def test_inverse_of_the_half_triangle(self, n: int, d: int, k: int, poisoned: None) -> None:
        V = torch.randn(2, n, d)
        V[:, 3] = 0
        V[:, 4] *= 1e-35
        scale, T = factors(V, k)
        spare = -n % k
        B = torch.nn.functional.pad(V, (0, 0, 0, spare)).view(2, -1, k, d) * scale.unsqueeze(-1)
        B = B.double()
        half = (B @ B.mT).triu()
        diagonal = half.diagonal(dim1=-2, dim2=-1).mul_(0.5)
        diagonal.masked_fill_(diagonal == 0, 1)
        eye = torch.eye(k, dtype=half.dtype).expand_as(half)
        exact = torch.linalg.solve_triangular(half, eye, upper=True)
        assert float((T - exact).norm() / exact.norm()) < 100 * torch.finfo(torch.float32).eps
        assert 0 < float(B.abs().max()) <= 2
        assert torch.equal(scale.log2(), scale.log2().round())  # powers of two

    @pytest.mark.parametrize(("blocks", "k"), [(3, 5), (2, 16), (1, 48)])
    def test_for_the_sweep_by_matrix_products(self, blocks: int, k: int) -> None:
        B = torch.randn(blocks, k, 20)
        B[:, 1] = 0
        rows, T, divisor = ut._by_triton(B)
        assert torch.allclose(rows * divisor, B)
        _, exact, _ = ut.ut_factors(rows)
        # A row of zeros may have any number on its diagonal.
        T[:, 1, 1] = exact[:, 1, 1]
        assert torch.allclose(T, exact, rtol=1e-4, atol=1e-5)


class TestChoice:
    """Plans for GPUs, which need none to be made."""

    @pytest.mark.parametrize(
        ("n", "d", "m"), list(itertools.product((1, 17, 448, 4096), (17, 256, 2048), (1, 128)))
    )
    def test_plans_for_a_gpu_are_ones_the_kernels_have(self, n: int, d: int, m: int) -> None:
        case = plans.Case(n, d, m, "bfloat16", "cuda some GPU", 0)
        found = [plans.formula(case), *plans.candidates(case), choice.plan_for(case, 32)]
        sizes = {"triton": (16, 32, 64), "tiles": (128, 256, 512, 1024), "torch": range(1, n + 1)}
        assert all(p.block_size in sizes[p.sweep] for p in found)
        assert {p.sweep for p in plans.candidates(case)} == set(sizes)

    def test_float64_is_left_to_cublas(self) -> None:
        case = plans.Case(64, 64, 32, "float64", "cuda some GPU", 0)
        assert {p.sweep for p in (plans.formula(case), *plans.candidates(case))} == {"torch"}

    def test_without_triton(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plans.fused, "has_triton", lambda: False)
        case = plans.Case(64, 64, 32, "float32", "cuda some GPU", 0)
        assert {p.sweep for p in (plans.formula(case), *plans.candidates(case))} == {"torch"}
        with pytest.raises(ValueError, match="needs Triton"):
            apply_reflectors(torch.randn(3, 4), torch.randn(4, 2), backend="triton")

    def test_a_cpu_is_told_what_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TRITON_INTERPRET")
        with pytest.raises(ValueError, match=r"NVIDIA GPU.*use backend='auto'"):
            apply_reflectors(torch.randn(3, 4), torch.randn(4, 2), backend="triton")

    def test_no_double_precision(self) -> None:
        V = torch.randn(3, 4, dtype=torch.float64)
        with pytest.raises(TypeError, match="no float64"):
            apply_reflectors(V, V.T, backend="triton")

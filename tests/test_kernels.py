"""The Householder core against the plain reference, on ordinary and on hostile inputs.

Tolerances: a product of n reflectors is backward stable, with an error of at most
c·n·eps relative to X (Higham, *Accuracy and Stability*, 2nd ed., Lemma 19.3).
Gradients sum over n further terms. c = 10 leaves room for the order of summation.
"""

import itertools
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from svdbench.kernels import (
    apply_reflectors,
    apply_reflectors_reference,
    custom_op,
    householder_product,
    ormqr,
    reflector_matrix,
)
from svdbench.kernels.apply import Apply
from svdbench.kernels.plans import Plan

SHAPES = [(1, 2, 1), (1, 5, 3), (7, 7, 1), (5, 9, 4), (20, 6, 3), (17, 32, 5), (64, 64, 8)]


def tolerance(V: Tensor) -> float:
    return 10 * max(V.shape[-2:]) * torch.finfo(V.dtype).eps


def relative(value: Tensor, exact: Tensor) -> float:
    value, exact = value.detach().double(), exact.double()
    return float((value - exact).norm() / exact.norm())


def inputs(n: int, d: int, m: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    V = torch.randn(n, d, dtype=dtype, requires_grad=True)
    X = torch.randn(d, m, dtype=dtype, requires_grad=True)
    return V, X, torch.randn(d, m, dtype=dtype)


def exact_step(V: Tensor, X: Tensor, G: Tensor, transpose: bool = False) -> tuple[Tensor, ...]:
    V, X = (t.detach().double().requires_grad_() for t in (V, X))
    out = apply_reflectors_reference(V, X, transpose=transpose)
    return out.detach(), *torch.autograd.grad(out, (V, X), G.double())


def assert_step_is_exact(
    V: Tensor, X: Tensor, G: Tensor, out: Tensor, transpose: bool = False
) -> None:
    step = out, *torch.autograd.grad(out, (V, X), G)
    for value, exact in zip(step, exact_step(V, X, G, transpose), strict=True):
        assert relative(value, exact) < tolerance(V)


class TestReference:
    def test_reflects(self) -> None:
        v, X = torch.randn(6, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
        H = torch.eye(6, dtype=torch.float64) - 2 * torch.outer(v, v) / (v @ v)
        assert torch.allclose(apply_reflectors_reference(v[None], X), H @ X)

    def test_order_is_left_to_right(self) -> None:
        V, eye = torch.randn(3, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)
        H = [eye - 2 * torch.outer(v, v) / (v @ v) for v in V]
        assert torch.allclose(apply_reflectors_reference(V, eye), H[0] @ H[1] @ H[2])
        assert torch.allclose(
            apply_reflectors_reference(V, eye, transpose=True), H[2] @ H[1] @ H[0]
        )


class TestStep:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("transpose", [False, True])
    def test_every_plan(self, shape: tuple[int, int, int], transpose: bool, poisoned: None) -> None:
        V, X, G = inputs(*shape)
        for k in (1, 2, 3, 16, 64):
            out = Apply.apply(V, X, None, Plan(k), transpose)
            assert_step_is_exact(V, X, G, out, transpose)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_many_blocks(self, dtype: torch.dtype, poisoned: None) -> None:
        V, X, G = inputs(300, 256, 5, dtype)  # more blocks than a segment, the last one not full
        for transpose in (False, True):
            out = Apply.apply(V, X, None, Plan(8), transpose)
            assert_step_is_exact(V, X, G, out, transpose)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_computed_in_float32(self, dtype: torch.dtype) -> None:
        V, X, G = inputs(48, 40, 6, dtype)
        out = apply_reflectors(V, X)
        assert out.dtype == dtype
        step = out, *torch.autograd.grad(out, (V, X), G)
        for value, exact in zip(step, exact_step(V, X, G), strict=True):
            assert value.dtype == dtype
            assert relative(value, exact) < torch.finfo(dtype).eps  # rounding of the result alone

    def test_one_dimension_has_no_direction(self) -> None:
        V, X, G = inputs(3, 1, 2)
        out = apply_reflectors(V, X)
        assert torch.allclose(out, -X)
        assert float(torch.autograd.grad(out, V, G)[0].abs().max()) < 1e-14

    @pytest.mark.parametrize("block_size", [None, 4, 100])
    def test_gradcheck(self, block_size: int | None) -> None:
        V, X, _ = inputs(7, 5, 3)
        for transpose in (False, True):
            assert torch.autograd.gradcheck(
                lambda V, X, t=transpose: apply_reflectors(
                    V, X, block_size=block_size, transpose=t
                ),
                (V, X),
            )

    @pytest.mark.parametrize("block_size", [None, 2])
    def test_second_derivatives(self, block_size: int | None) -> None:
        V, X, _ = inputs(4, 3, 2)
        assert torch.autograd.gradgradcheck(
            lambda V, X: apply_reflectors(V, X, block_size=block_size), (V, X)
        )

    @pytest.mark.parametrize("block_size", [None, 3])
    def test_only_what_is_asked_for(self, block_size: int | None) -> None:
        V, X, G = inputs(8, 6, 4)
        both = torch.autograd.grad(apply_reflectors(V, X, block_size=block_size), (V, X), G)
        only_V = apply_reflectors(V, X.detach(), block_size=block_size)
        only_X = apply_reflectors(V.detach(), X, block_size=block_size)
        assert torch.allclose(torch.autograd.grad(only_V, V, G)[0], both[0])
        assert torch.allclose(torch.autograd.grad(only_X, X, G)[0], both[1])
        with torch.no_grad():
            assert not apply_reflectors(V, X, block_size=block_size).requires_grad
        with torch.inference_mode():
            apply_reflectors(V, X, block_size=block_size)

    @pytest.mark.parametrize("block_size", [None, 4])
    def test_autocast_leaves_the_arithmetic_alone(self, block_size: int | None) -> None:
        V, X, G = inputs(12, 8, 3, torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = apply_reflectors(V, X, block_size=block_size)
            assert_step_is_exact(V, X, G, out)

    def test_meta_tensors_have_shapes(self) -> None:
        V, X = torch.empty(40, 8, device="meta"), torch.empty(8, 3, device="meta")
        assert apply_reflectors(V, X, block_size=4).shape == (8, 3)

    def test_backward_twice(self) -> None:
        V, X, G = inputs(12, 8, 3)
        out = apply_reflectors(V, X, block_size=4)
        first = torch.autograd.grad(out, (V, X), G, retain_graph=True)
        assert all(map(torch.equal, first, torch.autograd.grad(out, (V, X), G)))

    def test_reflectors_changed_in_place_are_noticed(self) -> None:
        V, X, G = inputs(12, 8, 3)
        out = apply_reflectors(V, X, block_size=4)
        with torch.no_grad():
            V.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.backward(G)


class TestShapes:
    def test_vector(self) -> None:
        V, x = torch.randn(5, 4), torch.randn(4)
        assert torch.allclose(apply_reflectors(V, x), apply_reflectors(V, x[:, None])[:, 0])

    @pytest.mark.parametrize("block_size", [None, 3])
    @pytest.mark.parametrize(
        ("batch_V", "batch_X"), [((), (2, 3)), ((3,), ()), ((3,), (2, 3)), ((2, 1), (1, 3))]
    )
    def test_leading_dimensions_broadcast(
        self, batch_V: tuple[int, ...], batch_X: tuple[int, ...], block_size: int | None
    ) -> None:
        V = torch.randn(*batch_V, 8, 6, dtype=torch.float64, requires_grad=True)
        X = torch.randn(*batch_X, 6, 2, dtype=torch.float64, requires_grad=True)
        out = apply_reflectors(V, X, block_size=block_size)
        exact = apply_reflectors_reference(V, X)
        G = torch.randn_like(exact)
        assert out.shape == exact.shape
        assert torch.allclose(out, exact)
        for ours, theirs in zip(
            torch.autograd.grad(out, (V, X), G), torch.autograd.grad(exact, (V, X), G), strict=True
        ):
            assert torch.allclose(ours, theirs)

    @pytest.mark.parametrize(("n", "d", "m"), [(0, 4, 2), (3, 4, 0), (3, 0, 2)])
    def test_empty(self, n: int, d: int, m: int) -> None:
        X = torch.randn(d, m)
        assert torch.equal(apply_reflectors(torch.randn(n, d), X), X)

    def test_strided_inputs_and_expanded_gradients(self) -> None:
        V = torch.randn(12, 20, dtype=torch.float64).T[::2, 1:].detach().requires_grad_()
        X = torch.randn(4, 11, dtype=torch.float64).T.detach().requires_grad_()
        G = torch.ones((), dtype=torch.float64).expand(11, 4)
        for block_size in (None, 4):
            assert_step_is_exact(V, X, G, apply_reflectors(V, X, block_size=block_size))


class TestHostileInputs:
    """Reflectors whose products, norms or angles leave no room for carelessness."""

    def check(self, V: Tensor, block_sizes: tuple[int | None, ...] = (None, 4, 16)) -> None:
        V = V.detach().requires_grad_()
        X = torch.randn(V.shape[1], 5, dtype=V.dtype, requires_grad=True)
        G = torch.randn_like(X)
        for block_size in block_sizes:
            out = apply_reflectors(V, X, block_size=block_size)
            step = out, *torch.autograd.grad(out, (V, X), G)
            for value, exact in zip(step, exact_step(V, X, G), strict=True):
                # Row by row: a large row must not hide an error in a small one.
                error = (value.double() - exact).norm(dim=1)
                scale = exact.norm(dim=1) + (X.norm() * G.norm() / _lengths(V, value, X))
                assert float((error / scale).detach().max()) < tolerance(V)

    def test_zero_rows(self) -> None:
        V = torch.randn(32, 24)
        V[[0, 5, 6, 31]] = 0
        self.check(V)
        V.requires_grad_()
        apply_reflectors(V, torch.randn(24, 3), block_size=8).sum().backward()
        assert V.grad is not None
        assert torch.equal(V.grad[[0, 5, 6, 31]], torch.zeros(4, 24))

    def test_all_rows_zero(self) -> None:
        X = torch.randn(6, 2)
        assert torch.equal(apply_reflectors(torch.zeros(9, 6), X, block_size=4), X)

    def test_parallel(self) -> None:
        self.check(torch.randn(1, 24).repeat(33, 1))

    def test_nearly_parallel(self) -> None:
        self.check(torch.randn(24) + 1e-4 * torch.randn(40, 24))

    @pytest.mark.parametrize("power", [-30, -18, -8, 8, 15, 18, 30])
    def test_badly_scaled(self, power: int) -> None:
        self.check(torch.randn(32, 24) * 10.0**power)

    def test_scales_mixed(self) -> None:
        self.check(torch.randn(32, 24) * torch.logspace(-18, 18, 32)[:, None])

    def test_one_long_row(self) -> None:
        V = torch.randn(32, 24)
        V[3] = 0
        V[3, 7] = 1e30
        self.check(V)

    def test_nan_is_not_hidden(self) -> None:
        V = torch.randn(8, 6)
        V[2, 3] = torch.nan
        assert apply_reflectors(V, torch.randn(6, 2), block_size=4).isnan().any()


def _lengths(V: Tensor, value: Tensor, X: Tensor) -> Tensor | float:
    """Gradients scale like 1/‖v‖; outputs do not."""
    is_gradient_of_V = value.shape == V.shape and value.shape != X.shape
    return V.detach().double().norm(dim=1).clamp_min(1e-300) if is_gradient_of_V else X.norm()


class TestTransforms:
    def test_vmap_and_per_sample_gradients(self) -> None:
        V, X = torch.randn(5, 4), torch.randn(3, 4, 2)
        each = torch.func.vmap(apply_reflectors, in_dims=(None, 0))(V, X)
        assert torch.allclose(each, apply_reflectors(V, X), atol=1e-5)

        def loss(V: Tensor, X: Tensor) -> Tensor:
            return apply_reflectors(V, X).square().sum(0).sum()

        grads = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(V, X)
        assert grads.shape == (3, 5, 4)

    def test_a_tensor_that_outlived_its_transform(self) -> None:
        V, X, outlived = torch.randn(5, 4), torch.randn(4, 2, requires_grad=True), []

        def loss(V: Tensor) -> Tensor:
            outlived.append(V)
            return V.square().sum()

        torch.func.grad(loss)(V)
        out = apply_reflectors(outlived[0], X)
        assert torch.equal(out, apply_reflectors(V, X))
        assert torch.autograd.grad(out.sum(), X)[0].shape == X.shape

    def test_jvp(self) -> None:
        V, X = torch.randn(5, 4, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
        dV = torch.randn_like(V)
        _, tangent = torch.func.jvp(lambda V: apply_reflectors(V, X), (V,), (dV,))
        h = 1e-6
        difference = (apply_reflectors(V + h * dV, X) - apply_reflectors(V - h * dV, X)) / (2 * h)
        assert torch.allclose(tangent, difference, atol=1e-7)

    def test_compile_in_one_graph(self) -> None:
        V, X, G = inputs(40, 16, 3)
        compiled = torch.compile(apply_reflectors, backend="aot_eager", fullgraph=True)
        assert_step_is_exact(V, X, G, compiled(V, X))
        low = V.detach().half().requires_grad_(), X.detach().half()  # of X no gradient is wanted
        assert torch.autograd.grad(compiled(*low).sum(), low[0])[0].dtype == torch.float16

    @pytest.mark.parametrize("shape", [(1, 12, 8, 3), (2, 13, 8, 3), (1, 130, 1024, 3)])
    @pytest.mark.parametrize("block_size", [0, 4])
    @pytest.mark.parametrize("keep", [False, True])
    def test_operator_keeps_to_the_rules(
        self, shape: tuple[int, int, int, int], block_size: int, keep: bool
    ) -> None:
        p, n, d, m = shape
        V, X = torch.randn(p, n, d, requires_grad=keep), torch.randn(p, d, m, requires_grad=True)
        options = block_size, False, "auto", keep
        torch.library.opcheck(custom_op._forward, (V, X, *options))

    @pytest.mark.parametrize("backend", ["wy", "plain", "reference"])
    def test_backends_agree(self, backend: str) -> None:
        V, X, G = inputs(9, 6, 3)
        assert_step_is_exact(V, X, G, apply_reflectors(V, X, backend=backend))

    def test_orthogonal(self) -> None:
        V, eye = torch.randn(100, 64), torch.eye(64)
        Q = apply_reflectors(V, eye)
        assert float((Q.T @ Q - eye).norm()) < tolerance(V)
        assert torch.allclose(apply_reflectors(V, Q, transpose=True), eye, atol=1e-5)


class TestCoefficients:
    """H(v) = I − τ v vᴴ, as LAPACK has it, of real and complex numbers."""

    @pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
    @pytest.mark.parametrize("batch", [(), (3,)])
    @pytest.mark.parametrize("transpose", [False, True])
    @pytest.mark.parametrize("with_tau", [False, True])
    def test_against_the_reference(
        self, dtype: torch.dtype, batch: tuple[int, ...], transpose: bool, with_tau: bool
    ) -> None:
        for n, d, m in ((1, 2, 1), (20, 6, 3), (150, 40, 3)):
            V = torch.randn(*batch, n, d, dtype=dtype, requires_grad=True)
            X, G = torch.randn(2, *batch, d, m, dtype=dtype).unbind(0)
            tau = torch.randn(*batch, n, dtype=dtype) / d
            tau[..., 0] = 0
            given = [V, X.requires_grad_(), *([tau.requires_grad_()] if with_tau else [])]
            exact = apply_reflectors_reference(*given, transpose=transpose)
            wanted = torch.autograd.grad(exact, given, G)
            for k in (1, 3, 8, 200):
                out = Apply.apply(*given, *[None] * (3 - len(given)), Plan(k), transpose)
                assert relative_complex(out, exact) < 1e-12
                for value, right in zip(torch.autograd.grad(out, given, G), wanted, strict=True):
                    assert relative_complex(value, right) < 1e-12

    @pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
    def test_gradcheck(self, dtype: torch.dtype) -> None:
        V, X = torch.randn(5, 4, dtype=dtype), torch.randn(4, 2, dtype=dtype)
        given = [t.requires_grad_() for t in (V, X, torch.rand(5, dtype=dtype))]
        assert torch.autograd.gradcheck(apply_reflectors, given)
        assert torch.autograd.gradgradcheck(apply_reflectors, given)
        assert torch.autograd.gradcheck(apply_reflectors, given[:2])

    def test_broadcast_and_shapes(self) -> None:
        V, X, tau = torch.randn(7, 5), torch.randn(3, 5, 2), torch.rand(2, 1, 7)
        out = apply_reflectors(V, X, tau)
        assert out.shape == (2, 3, 5, 2)
        assert torch.allclose(out, apply_reflectors_reference(V, X, tau), atol=1e-5)
        assert torch.equal(apply_reflectors(V, X, torch.zeros(7)), X)
        assert apply_reflectors(V, X[0, :, 0], torch.zeros(7)).shape == (5,)

    def test_of_unit_vectors_is_the_reflector(self) -> None:
        V, X = torch.randn(9, 6, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
        tau = 2 / V.square().sum(-1)
        assert torch.allclose(apply_reflectors(V, X, tau), apply_reflectors(V, X))

    def test_unitary(self) -> None:
        V, eye = torch.randn(70, 40, dtype=torch.cfloat), torch.eye(40, dtype=torch.cfloat)
        Q = apply_reflectors(V, eye)
        assert float((Q.mH @ Q - eye).norm()) < tolerance(V)
        assert torch.allclose(apply_reflectors(V, Q, transpose=True), eye, atol=1e-5)
        conjugated = apply_reflectors(V.conj(), eye.conj())
        assert torch.allclose(conjugated, Q.conj(), atol=1e-5)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
    @pytest.mark.parametrize("shape", [(5, 3), (4, 4), (2, 6, 3)])
    def test_the_calls_of_torch_linalg(self, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
        factors, tau = torch.geqrf(torch.randn(*shape, dtype=dtype))
        for few in (tau, tau[..., :-1]):
            ours = householder_product(factors, few)
            assert torch.allclose(ours, torch.linalg.householder_product(factors, few))
        for left, transpose in itertools.product((True, False), repeat=2):
            sizes = (shape[-2], 2) if left else (2, shape[-2])
            C = torch.randn(*shape[:-2], *sizes, dtype=dtype)
            mine = ormqr(factors, tau, C, left, transpose)
            assert torch.allclose(mine, torch.ormqr(factors, tau, C, left, transpose))
        given = [t.requires_grad_() for t in (factors, tau)]
        assert torch.autograd.gradcheck(householder_product, given)
        with pytest.raises(ValueError, match="tau has"):
            householder_product(factors, torch.zeros(*shape[:-2], 7, dtype=dtype))


def relative_complex(value: Tensor, exact: Tensor) -> float:
    return float((value - exact).detach().norm() / exact.detach().norm().clamp_min(1e-12))


class TestAsPyTorch:
    """What PyTorch's own operations do, and what its tests try."""

    def test_rows_of_data_are_not_copied(self) -> None:
        for n in (8, 300):
            V, x = torch.randn(n, 40), torch.randn(64, 40)
            y = apply_reflectors(V, x.t()).t()
            assert y.is_contiguous()
            assert torch.allclose(y, apply_reflectors_reference(V, x.t()).t(), atol=1e-4)
            x.requires_grad_()
            apply_reflectors(V, x.t()).t().sum().backward()
            assert x.grad is not None
            assert x.grad.is_contiguous()

    @pytest.mark.parametrize("n", [5, 200])
    def test_forward_mode_and_batched_gradients(self, n: int) -> None:
        V, X, _ = inputs(n, 5, 2)
        tangent = torch.randn_like(V)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(V.detach(), tangent)
            found = forward_ad.unpack_dual(apply_reflectors(dual, X.detach())).tangent
        _, exact = torch.func.jvp(lambda V: apply_reflectors_reference(V, X), (V,), (tangent,))
        assert torch.allclose(found, exact)
        jacobian = torch.autograd.functional.jacobian
        each = jacobian(apply_reflectors, (V, X))
        for one, many in zip(each, jacobian(apply_reflectors, (V, X), vectorize=True), strict=True):
            assert torch.allclose(one, many)

    def test_jvp_of_jvp(self) -> None:
        V, X, _ = inputs(4, 3, 2)
        D = torch.randn_like(V)

        def second(f: Callable[..., Tensor]) -> Tensor:
            first = lambda V: torch.func.jvp(lambda V: f(V, X), (V,), (D,))[1]  # noqa: E731
            return torch.func.jvp(first, (V,), (D,))[1]

        assert torch.allclose(second(apply_reflectors), second(apply_reflectors_reference))

    @pytest.mark.parametrize("shape", [(5, 4), (300, 4), (2, 5, 4)])
    def test_results_may_be_changed_in_place(self, shape: tuple[int, ...]) -> None:
        V = torch.randn(*shape, requires_grad=True)
        out = apply_reflectors(V, torch.randn(3, 4, 2) if len(shape) == 2 else torch.randn(4, 2))
        out.mul_(2).relu_()
        out.sum().backward()

    @pytest.mark.parametrize(("n", "d", "m"), [(0, 4, 2), (3, 4, 0), (3, 0, 2)])
    def test_gradients_of_nothing_are_zeros(self, n: int, d: int, m: int) -> None:
        V, X = torch.randn(n, d, requires_grad=True), torch.randn(d, m, requires_grad=True)
        dV, dX = torch.autograd.grad(apply_reflectors(V, X).sum(), (V, X))
        assert torch.equal(dV, torch.zeros(n, d))
        assert torch.equal(dX, torch.ones(d, m))

    @pytest.mark.parametrize("n", [1, 7, 40, 200])
    @pytest.mark.parametrize("transpose", [False, True])
    def test_a_product_as_a_matrix(self, n: int, transpose: bool) -> None:
        V = torch.randn(n, 12, dtype=torch.float64, requires_grad=True)
        with torch.no_grad():
            V[0] *= 1e-30
        for r in (12, 5):
            E = torch.eye(12, r, dtype=torch.float64)
            exact = apply_reflectors_reference(V, E, transpose=transpose)
            out = reflector_matrix(V, r, transpose=transpose)
            assert torch.allclose(out, exact)
            G = torch.randn_like(out)
            wanted, found = (torch.autograd.grad(Q, V, G)[0] for Q in (exact, out))
            assert torch.allclose(wanted, found)
        assert torch.autograd.gradgradcheck(
            lambda V: reflector_matrix(V, 3, transpose=transpose),
            torch.randn(4, 3).double().requires_grad_(),
        )
        with pytest.raises(ValueError, match="orthonormal columns, not 13"):
            reflector_matrix(V, 13)

    def test_the_number_of_threads_stays(self) -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        seen: list[int] = []
        running = threading.Event()

        def work() -> None:
            V, X, _ = inputs(64, 64, 32)
            running.set()
            for _ in range(50):
                apply_reflectors(V, X).sum().backward()

        try:
            busy = threading.Thread(target=work)
            busy.start()
            running.wait()
            while busy.is_alive():
                other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
                other.start()
                other.join()
        finally:
            torch.set_num_threads(before)
        assert set(seen) == {2}

    def test_tiny_reflectors_of_half_precision_have_finite_gradients(self) -> None:
        for dtype in (torch.float16, torch.bfloat16):
            V = (torch.randn(6, 5) * 1e-6).to(dtype).requires_grad_()
            apply_reflectors(V, torch.randn(5, 3).to(dtype)).sum().backward()
            assert V.grad is not None
            assert V.grad.isfinite().all()

    def test_sizes_may_change_without_another_compilation(self) -> None:
        counter = CompileCounterWithBackend("aot_eager")
        compiled = torch.compile(apply_reflectors, backend=counter, dynamic=True, fullgraph=True)
        for V in (torch.randn(20, 16, requires_grad=True), torch.randn(200, 16)):
            torch.compiler.reset()
            counter.frame_count = 0
            for m in range(2, 22, 2):
                X = torch.randn(16, m, requires_grad=True)
                out = compiled(V, X)
                out.sum().backward()
                assert torch.allclose(out, apply_reflectors_reference(V, X), atol=1e-4)
            assert counter.frame_count <= 2

    def test_exported_with_any_number_of_columns(self) -> None:
        module = _Product(torch.randn(20, 8))
        columns = torch.export.Dim("columns", min=1, max=1000)
        x = torch.randn(8, 5)
        made = torch.export.export(module, (x,), dynamic_shapes=({1: columns},), strict=False)
        assert not any("svdbench" in str(node.target) for node in made.graph.nodes)
        for m in (2, 5, 40):
            x = torch.randn(8, m)
            assert torch.allclose(made.module()(x), module(x), atol=1e-5)

    def test_traced(self) -> None:
        module, x = _Product(torch.randn(20, 8)), torch.randn(8, 5)
        traced = torch.jit.trace(module, (x,))
        assert torch.allclose(traced(2 * x), module(2 * x), atol=1e-5)

    def test_fake_tensors(self) -> None:
        with FakeTensorMode():
            V, X = torch.randn(200, 8, requires_grad=True), torch.randn(8, 5)
            out = apply_reflectors(V, X)
            out.sum().backward()
            assert out.shape == (8, 5)
            assert V.grad is not None

    def test_onnx(self) -> None:
        pytest.importorskip("onnxscript")
        onnxruntime = pytest.importorskip("onnxruntime")
        module, x = _Product(torch.randn(20, 8)), torch.randn(8, 5)
        program = torch.onnx.export(module, (x,), dynamo=True)
        assert program is not None
        session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
        (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert torch.allclose(torch.from_numpy(out), module(x), atol=1e-5)


class _Product(torch.nn.Module):
    def __init__(self, V: Tensor) -> None:
        super().__init__()
        self.V = torch.nn.Parameter(V)

    def forward(self, x: Tensor) -> Tensor:
        return apply_reflectors(self.V, x)


class TestErrors:
    @pytest.mark.parametrize(
        ("V", "X", "options", "kind", "says"),
        [
            (torch.ones(2, 3), torch.ones(4, 2), {}, ValueError, r"reflectors of length 3"),
            (torch.ones(3), torch.ones(3, 2), {}, ValueError, r"a reflector per row"),
            (torch.ones(2, 3), torch.ones(()), {}, ValueError, r"must be \(3,\)"),
            (torch.ones(2, 3), torch.ones(3, 2).double(), {}, TypeError, r"convert one"),
            (torch.ones(2, 3).int(), torch.ones(3, 2).int(), {}, TypeError, r"floating point"),
            (torch.ones(2, 3), torch.ones(3, 2), {"block_size": 0}, ValueError, r"at least 1"),
            (torch.ones(2, 3), torch.ones(3, 2), {"backend": "gpu"}, ValueError, r"choose from"),
            (torch.ones(2, 2, 3), torch.ones(5, 3, 2), {}, ValueError, r"make them broadcast"),
        ],
    )
    def test_one_line(
        self, V: Tensor, X: Tensor, options: dict[str, object], kind: type[Exception], says: str
    ) -> None:
        with pytest.raises(kind, match=says) as raised:
            apply_reflectors(V, X, **options)  # type: ignore[arg-type]
        assert "\n" not in str(raised.value)

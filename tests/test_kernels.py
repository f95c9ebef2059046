"""The Householder core against the plain reference, on ordinary and on hostile inputs.

Tolerances: a product of n reflectors is backward stable, with an error of at most
c·n·eps relative to X (Higham, *Accuracy and Stability*, 2nd ed., Lemma 19.3).
Gradients sum over n further terms. c = 10 leaves room for the order of summation.
"""

import itertools

import pytest
import torch
from torch import Tensor

from svdbench.kernels import apply_reflectors, apply_reflectors_reference, custom_op
from svdbench.kernels.apply import Apply
from svdbench.kernels.tuning import Case, Plan, Tuned, remember

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
        for k, panels in itertools.product((1, 2, 3, 16, 64), (1, 2, 4)):
            if shape[1] % panels == 0:
                out = Apply.apply(V, X, Plan(k, panels), transpose)
                assert_step_is_exact(V, X, G, out, transpose)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_many_blocks(self, dtype: torch.dtype, poisoned: None) -> None:
        V, X, G = inputs(300, 256, 5, dtype)  # more blocks than a segment, rows 512 bytes apart
        for panels in (1, 2):
            assert_step_is_exact(V, X, G, Apply.apply(V, X, Plan(8, panels), False))

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

    def test_tuning_does_not_disturb_what_was_compiled(self) -> None:
        V, X, G = inputs(48, 16, 3)
        compiled = torch.compile(apply_reflectors, backend="aot_eager", fullgraph=True)
        assert_step_is_exact(V, X, G, compiled(V, X))
        case = Case.of(48, 16, 3, V.dtype, V.device)
        remember(Tuned(case, Plan(5), {Plan(5): 1e-3}))
        assert_step_is_exact(V, X, G, compiled(V, X))

    @pytest.mark.parametrize("backend", ["wy", "plain", "reference"])
    def test_backends_agree(self, backend: str) -> None:
        V, X, G = inputs(9, 6, 3)
        assert_step_is_exact(V, X, G, apply_reflectors(V, X, backend=backend))

    def test_orthogonal(self) -> None:
        V, eye = torch.randn(100, 64), torch.eye(64)
        Q = apply_reflectors(V, eye)
        assert float((Q.T @ Q - eye).norm()) < tolerance(V)
        assert torch.allclose(apply_reflectors(V, Q, transpose=True), eye, atol=1e-5)


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

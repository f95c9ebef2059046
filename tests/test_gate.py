"""The gate: what is right passes, what is one per cent wrong does not."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from svdbench.jobs.time_fasth.methods.base import Method
from svdbench.measure.algorithm import Flops, Problem
from svdbench.measure.gate import allowance, check, reference_of
from svdbench.members import METHODS


class Scale(torch.autograd.Function):
    """The identity, but for the factors put on the value and on the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: float, gradient: float) -> Tensor:
        ctx.gradient = gradient
        return x * value

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        return g * ctx.gradient, None, None


class Cayley(Method):
    """A small real method that can be given faults."""

    kind, builds, gradients, source = "cayley", "QX", "torch's", "this test"
    output = grad_V = grad_X = 1.0

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        V, X = Scale.apply(V, 1.0, self.grad_V), Scale.apply(X, 1.0, self.grad_X)
        S = V - V.mT
        QX = torch.linalg.solve(torch.eye(len(S), dtype=S.dtype) + S, X - S @ X)
        return Scale.apply(QX, self.output, 1.0)

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        S, one = V - V.mT, torch.eye(len(V), dtype=V.dtype)
        return torch.linalg.inv(one + S) @ (one - S) @ X

    def flops(self, problem: Problem) -> Flops:
        return Flops(0.0, 0.0)


def inputs(d: int, n: int, m: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    random_numbers = torch.Generator().manual_seed(d * n * m)
    shapes = (n, d), (d, m), (d, m)
    V, X, G = (torch.randn(shape, generator=random_numbers).to(dtype) for shape in shapes)
    return V, X, G


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", METHODS.names())
def test_healthy_methods_pass_with_room_to_spare(name: str, dtype: torch.dtype) -> None:
    for d, n, m in [(64, 64, 32), (8, 40, 16), (16, 3, 1)]:
        method, (V, X, G) = METHODS.load(name), inputs(d, n, m, dtype)
        if reason := method.skip(Problem(d, n, m, dtype)):
            assert reason
            continue
        if hasattr(method, "tune"):
            method.tune = False  # which takes seconds, and is not the matter here
        V = method.parameter(V)
        method.prepare(V, X)
        verdict = check(method, V, X, G, factor=1 / 4)
        assert verdict.ok, verdict.reason


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("d", [1, 2, 16, 64, 512])
@pytest.mark.parametrize(
    ("fault", "names"),
    [
        ("output", ("error", "orthogonality")),
        ("grad_V", ("grad_V_error",)),
        ("grad_X", ("grad_X_error",)),
    ],
)
def test_one_per_cent_wrong_is_red(
    fault: str, names: tuple[str, ...], d: int, dtype: torch.dtype
) -> None:
    method, (V, X, G) = Cayley(), inputs(d, d, 32, dtype)
    reference = reference_of(method, V, X, G)
    assert check(method, V, X, G, reference=reference).ok
    if d == 1 and fault == "grad_V":
        pytest.skip("φ is constant in one dimension")
    setattr(method, fault, 1.01)
    verdict = check(method, V, X, G, reference=reference)
    assert not verdict.ok
    assert verdict.reason.startswith(names)
    assert "\n" not in verdict.reason


def test_the_largest_allowance_still_shows_one_per_cent() -> None:
    assert allowance(torch.float32, 10**6) == 0.005
    assert allowance(torch.float32, 64) == pytest.approx(64 * 64 * 2**-23)
    assert allowance(torch.bfloat16, 10**6) == 0.25


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_passes_when_healthy_and_fails_when_a_term_is_lost(
    dtype: torch.dtype,
) -> None:
    class Half(Cayley):
        def apply(self, V: Tensor, X: Tensor) -> Tensor:
            return super().apply(V.float(), X.float()).to(dtype)

    method, (V, X, G) = Half(), inputs(64, 64, 32, dtype)
    assert check(method, V, X, G, factor=1 / 4).ok
    method.grad_V = 0.5
    assert not check(method, V, X, G).ok


def test_what_is_not_finite_is_red() -> None:
    method, (V, X, G) = Cayley(), inputs(8, 8, 4, torch.float32)
    method.output = math.nan
    verdict = check(method, V, X, G)
    assert not verdict.ok
    assert verdict.error == verdict.orthogonality == math.inf
    assert verdict.reason.startswith("error is not finite")
    method.output, method.grad_X = 1.0, math.inf
    assert check(method, V, X, G).reason.startswith("grad_X_error is not finite")


def test_a_gradient_that_never_arrives_is_red() -> None:
    class Detached(Cayley):
        def apply(self, V: Tensor, X: Tensor) -> Tensor:
            return super().apply(V.detach(), X)

    verdict = check(Detached(), *inputs(8, 8, 4, torch.float32))
    assert verdict.grad_V_error == 1.0
    assert not verdict.ok


def test_a_wrong_shape_is_red() -> None:
    class Wide(Cayley):
        def apply(self, V: Tensor, X: Tensor) -> Tensor:
            return super().apply(V, X).flatten()

    verdict = check(Wide(), *inputs(8, 8, 4, torch.float32))
    assert not verdict.ok
    assert verdict.reason == "the output has shape (32,) instead of (8, 4)"


def test_a_reference_is_computed_once_and_the_inputs_stay_as_they_are() -> None:
    class Counting(Cayley):
        calls = 0

        def reference(self, V: Tensor, X: Tensor) -> Tensor:
            self.calls += 1
            assert V.dtype == torch.float64
            return super().reference(V, X)

    method, tensors = Counting(), inputs(8, 8, 4, torch.float32)
    copies = [tensor.clone() for tensor in tensors]
    reference = reference_of(method, *tensors)
    first, second = (check(method, *tensors, reference=reference) for _ in range(2))
    assert first == second
    assert method.calls == 1
    assert not any(tensor.requires_grad for tensor in tensors)
    assert all(map(torch.equal, tensors, copies))

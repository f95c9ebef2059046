"""Precision on tensor cores, emulated: the interpreter's products made as the hardware makes them.

Operands of a TF32 product lose the last 13 bits of the fraction; those of bf16x6 are split
into three bfloat16 numbers. Sums are exact but for their last rounding, to float32.
"""

import os
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed: Linux only")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("a GPU is here: test_gpu.py runs the kernels on it", allow_module_level=True)

import triton
import triton.language as tl
from triton.runtime import interpreter

from svdbench.kernels import Plan, apply_reflectors_reference, triton_precision
from svdbench.kernels.apply import Apply
from svdbench.kernels.triton_precision import precision, rounded

Array = NDArray[Any]


@triton.jit
def unrounded(b_x, PRECISION: tl.constexpr):  # type: ignore[no-untyped-def]
    return b_x


@triton.jit
def rounding_kernel(p_x, p_y, N: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.arange(0, N)
    tl.store(p_y + at, rounded(tl.load(p_x + at), "tf32"))


def cut(x: Array) -> Array:
    """As a TF32 operand: 10 bits of the fraction, the others cut off."""
    return (np.ascontiguousarray(x).view(np.int32) & -0x2000).view(np.float32)


def split(x: Array) -> list[Array]:
    """Three bfloat16 numbers whose sum is near x."""
    parts, rest = [], torch.from_numpy(np.ascontiguousarray(x))
    for _ in range(3):
        part = rest.bfloat16().float()
        parts.append(part.double().numpy())
        rest = rest - part
    return parts


def multiplied(x: Array, y: Array, mode: str) -> Array:
    """The product of float32 matrices in a mode of ``tl.dot``, in float64."""
    if mode == "ieee":
        return np.matmul(x, y).astype(np.float64)
    if mode == "tf32":
        return np.matmul(cut(x).astype(np.float64), cut(y).astype(np.float64))
    xs, ys = split(x), split(y)
    return sum(np.matmul(xs[i], ys[j]) for i in range(3) for j in range(3) if i + j <= 2)


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """TF32 products as tensor cores make them; the attribute says what to make of "ieee" ones."""
    chosen = SimpleNamespace(ieee="ieee")

    def dot(self: Any, a: Any, b: Any, d: Any, asked: Any, *_: Any) -> Any:
        name = "tf32" if str(asked).endswith("TF32") else chosen.ieee
        found = multiplied(a.data, b.data, name).astype(np.float32) + d.data
        return interpreter.TensorHandle(found, d.dtype.scalar)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", dot)
    return chosen


def errors(V: Tensor, X: Tensor, G: Tensor, plan: Plan) -> list[float]:
    """Of the product and both gradients, relative in the Frobenius norm."""
    out = Apply.apply(V, X, None, plan, False)
    found = out.detach(), *torch.autograd.grad(out, (V, X), G)
    wide = [t.detach().double().requires_grad_() for t in (V, X)]
    exact = apply_reflectors_reference(*wide)
    right = exact.detach(), *torch.autograd.grad(exact, wide, G.double())
    return [float((a - b).norm() / b.norm()) for a, b in zip(found, right, strict=True)]


def step(n: int, d: int, m: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    V, X, G = (torch.randn(*size).to(dtype) for size in ((n, d), (d, m), (d, m)))
    return [V.requires_grad_(), X.requires_grad_(), G]


@pytest.mark.parametrize("plan", [Plan(16, "triton"), Plan(64, "triton"), Plan(128, "tiles")])
def test_bf16x6_is_as_exact_as_float32(plan: Plan, mode: SimpleNamespace) -> None:
    V, X, G = step(60, 62, 5)
    plain = errors(V, X, G, plan)
    mode.ieee = "bf16x6"
    assert max(errors(V, X, G, plan)) <= max(plain)


@pytest.mark.parametrize("plan", [Plan(16, "triton"), Plan(128, "tiles")])
def test_tf32_operands_are_rounded(
    plan: Plan, mode: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hardware cuts off is zero already, and the result nearer than with it."""
    monkeypatch.setattr(triton_precision, "_read_setting", lambda *_: "tf32")
    V, X, G = step(60, 62, 5)
    rounded = errors(V, X, G, plan)
    monkeypatch.setattr(triton_precision, "rounded", unrounded)
    truncated = errors(V, X, G, plan)
    assert all(1e-5 < ours < theirs for ours, theirs in zip(rounded, truncated, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("plan", [Plan(16, "triton"), Plan(128, "tiles")])
def test_half_precision_has_room_to_spare(
    dtype: torch.dtype, plan: Plan, mode: SimpleNamespace
) -> None:
    """Half of what is allowed: twice the error of PyTorch's own operations in that dtype."""
    V, X, G = step(60, 62, 5, dtype)
    found = errors(V, X, G, plan)
    own = apply_reflectors_reference(V, X)
    wide = [t.detach().double().requires_grad_() for t in (V, X)]
    exact = apply_reflectors_reference(*wide)
    right = exact.detach(), *torch.autograd.grad(exact, wide, G.double())
    plain = own.detach(), *torch.autograd.grad(own, (V, X), G)
    for error, a, b in zip(found, plain, right, strict=True):
        allowed = max(2 * float((a - b).norm() / b.norm()), torch.finfo(dtype).eps)
        assert error <= allowed / 2


def test_rounding() -> None:
    """To the nearest, ties away from zero; NaN stays NaN, and infinity itself."""
    step = 2.0**-10
    x = torch.tensor([1 + 0.4 * step, 1 + 0.6 * step, -1 - 0.5 * step, torch.inf, -0.0, 0, 0, 0])
    x[5:7] = torch.tensor([0x7FFFFFFF, 0x7FC00000], dtype=torch.int32).view(torch.float32)
    y = torch.empty_like(x)
    rounding_kernel[(1,)](x, y, 8)
    wanted = torch.tensor([1, 1 + step, -1 - step, torch.inf, -0.0, torch.nan, torch.nan, 0])
    assert torch.equal(y.nan_to_num(nan=7), wanted.nan_to_num(nan=7))


def emulated_step(V: Tensor, X: Tensor, G: Tensor, mode: str) -> tuple[Tensor, Tensor, Tensor]:
    """A step with one block, all products but the inverse's base in a mode of ``tl.dot``."""

    def product(a: Tensor, b: Tensor) -> Tensor:
        return torch.from_numpy(multiplied(a.numpy(), b.numpy(), mode).astype(np.float32))

    n, base = len(V), 32
    S = product(V, V.T)
    T = torch.zeros_like(S)
    for i in range(0, n, base):
        part = S[i : i + base, i : i + base].triu().double()
        part.diagonal().mul_(0.5)
        T[i : i + base, i : i + base] = torch.linalg.inv(part).float()
    half = base
    while half < n:
        for i in range(0, n, 2 * half):
            one, two = slice(i, i + half), slice(i + half, i + 2 * half)
            T[one, two] = -product(T[one, one], product(S[one, two], T[two, two]))
        half *= 2
    Z, W = product(T, product(V, X)), product(T.T, product(V, G))
    F = product(W, Z.T).triu()
    F.diagonal().mul_(0.5)
    dV = product(F + F.T, V) - product(W, X.T) - product(Z, G.T)
    return X - product(V.T, Z), dV, G - product(V.T, W)


def test_error_of_a_step_of_1024() -> None:
    V, X, G = (t.detach() for t in step(1024, 1024, 32))
    V = V / 32
    wide = [t.double().requires_grad_() for t in (V, X)]
    S = wide[0] @ wide[0].T
    T = torch.linalg.inv(S.triu(1) + torch.diag(S.diagonal() / 2))
    out = wide[1] - wide[0].T @ (T @ (wide[0] @ wide[1]))
    right = out.detach(), *torch.autograd.grad(out, wide, G.double())
    found = {}
    for mode in ("ieee", "bf16x6"):
        parts = zip(emulated_step(V, X, G, mode), right, strict=True)
        found[mode] = [float((a - b).norm() / b.norm()) for a, b in parts]
    assert all(ours <= plain for ours, plain in zip(found["bf16x6"], found["ieee"], strict=True))


class TestChoice:
    def test_by_pytorchs_setting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(triton_precision, "most_precise", lambda: "bf16x6")
        for setting, expected in (("ieee", "ieee"), ("tf32", "tf32"), ("none", "bf16x6")):
            read = partial(lambda setting, *_: setting, setting)
            monkeypatch.setattr(triton_precision, "_read_setting", read)
            assert precision(torch.float32) == expected
        monkeypatch.setattr(triton_precision, "_read_setting", None)  # as up to PyTorch 2.8
        for allowed, expected in ((True, "tf32"), (False, "bf16x6")):
            monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(allow_tf32=allowed))
            assert precision(torch.float32) == expected

    def test_half_precision_fits_in_tf32(self) -> None:
        assert precision(torch.bfloat16) == "tf32"

    def test_triton_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        options = pytest.importorskip("triton.backends.nvidia.compiler").CUDAOptions
        monkeypatch.setattr(triton_precision, "is_interpreted", lambda: False)
        asked = triton_precision.most_precise.__wrapped__
        has = "bf16x6" in options.allowed_dot_input_precisions
        assert asked() == ("bf16x6" if has else "ieee")
        monkeypatch.setattr(options, "allowed_dot_input_precisions", ("tf32", "ieee"))
        assert asked() == "ieee"
        assert triton_precision.least_width.__wrapped__() in (1, 16)

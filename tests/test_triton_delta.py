"""The delta rule's chunks in one kernel each way, run by Triton's interpreter, against float64."""

import os
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed: Linux only")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("a GPU is here: test_gpu_smoke.py runs the kernels on it", allow_module_level=True)

from svdbench.kernels import triton_delta
from svdbench.nn import delta_rule as rule
from svdbench.nn.delta_rule import delta_rule

pytestmark = [
    pytest.mark.usefixtures("one_thread", "poisoned", "in_kernels"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of the poison
]


@pytest.fixture
def in_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends single precision to the kernels, also on the CPU."""

    def fits(keys: Tensor, reflectors: int) -> bool:
        return triton_delta.fits(reflectors, keys.shape[-1], keys.dtype)

    monkeypatch.setattr(rule, "runs_in_kernels", fits)


def given(T: int, Z: int, r: int, d_k: int, d_v: int, writes: bool = True) -> list[Tensor | None]:
    k = torch.nn.functional.normalize(torch.randn(T, Z, r, d_k), dim=-1)
    shapes = (T, Z, r, d_v), (T, Z, r), (T, Z, d_k), (Z, d_k, d_v)
    v, beta, q, first = (torch.randn(*shape) for shape in shapes)
    tensors = [k, v if writes else None, 2 * torch.sigmoid(beta), q, first]
    return [None if t is None else t.requires_grad_() for t in tensors]


def same_as_float64(tensors: list[Tensor | None], **options: Any) -> None:
    """Outputs, states and all gradients; the last by numbers at outputs and states."""
    exact = [None if t is None else t.detach().double().requires_grad_() for t in tensors]
    found, wanted = delta_rule(*tensors, **options), delta_rule(*exact, **options)
    assert found[0].grad_fn.in_kernels  # type: ignore[union-attr]
    weights = [torch.randn_like(each) for each in found]
    both = []
    for outputs, inputs in ((found, tensors), (wanted, exact)):
        loss = sum(
            (each * weight.to(each)).sum() for each, weight in zip(outputs, weights, strict=True)
        )
        inputs = [t for t in inputs if t is not None]
        both.append([*outputs, *torch.autograd.grad(loss, inputs)])
    for i, (ours, right) in enumerate(zip(*both, strict=True)):
        assert ours.dtype == torch.float32
        error = (ours.detach() - right.detach()).abs().max()
        assert error <= 2e-5 * max(1.0, float(right.detach().abs().max())), i


@pytest.mark.parametrize("writes", [True, False], ids=["writes", "no writes"])
@pytest.mark.parametrize(
    ("T", "Z", "r", "d_k", "d_v", "chunk"),
    [
        (1, 1, 1, 1, 1, None),
        (5, 2, 2, 3, 17, 2),
        (7, 1, 3, 20, 5, None),
        (40, 1, 1, 5, 3, 15),
        (33, 2, 1, 16, 16, None),
        (3, 1, 2, 32, 16, 1),
    ],
)
def test_outputs_states_and_gradients(
    T: int, Z: int, r: int, d_k: int, d_v: int, chunk: int | None, writes: bool
) -> None:
    same_as_float64(given(T, Z, r, d_k, d_v, writes), chunk=chunk)


def test_equal_keys_zero_keys_and_zero_coefficients() -> None:
    tensors = given(9, 2, 2, 4, 3)
    k, _, beta, *_ = tensors
    assert k is not None
    assert beta is not None
    with torch.no_grad():
        k[:4] = k[:1, :, :1]
        beta[:4] = 2
        k[5] = 0
        beta[7] = 0
    same_as_float64(tensors, chunk=4)


def test_outputs_or_states_alone_and_strides() -> None:
    tensors = given(6, 2, 2, 4, 3)
    exact = [None if t is None else t.detach().double().requires_grad_() for t in tensors]
    for which in (0, 1):
        losses = [delta_rule(*t, chunk=2)[which].square().sum() for t in (tensors, exact)]
        inputs = (0, 1, 2, 4)
        found, wanted = (
            torch.autograd.grad(loss, [t[i] for i in inputs])
            for loss, t in zip(losses, (tensors, exact), strict=True)
        )
        for ours, right in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours.double(), right, rtol=1e-4, atol=1e-4)
    turned = [
        None if t is None else t.detach().transpose(0, 1).contiguous().transpose(0, 1)
        for t in tensors
    ]
    torch.testing.assert_close(delta_rule(*turned)[0], delta_rule(*tensors)[0].detach())


def test_nothing_and_what_is_too_large() -> None:
    outputs, states = delta_rule(*given(3, 0, 1, 4, 2))
    assert (outputs.shape, states.shape) == ((3, 0, 2), (1, 0, 4, 2))
    outputs, _ = delta_rule(*given(40, 1, 1, 4, 2), chunk=40)
    assert not outputs.grad_fn.in_kernels  # type: ignore[union-attr]
    assert not triton_delta.fits(1, 33, torch.float32)
    assert not triton_delta.fits(1, 16, torch.float64)


def test_where_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert not rule.runs_in_kernels(torch.ones(2, 1, 1, 4), 2)

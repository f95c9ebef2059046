"""Scans in one kernel each way, run by Triton's interpreter, against loops in float64."""

import os
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed: Linux only")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("a GPU is here: test_gpu_smoke.py runs the kernels on it", allow_module_level=True)

from svdbench.nn import scans
from svdbench.nn.scans import gated_scan, scan

pytestmark = [
    pytest.mark.usefixtures("one_thread", "poisoned", "in_one_kernel"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of the poison
]
SIZES = [(1, 1, 1), (5, 3, 11), (4, 1, 33)]
SINGLE = (torch.float32, torch.complex64)


@pytest.fixture
def in_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends what is single precision to the kernels, also on the CPU."""
    monkeypatch.setattr(scans, "runs_in_one_kernel", lambda b: b.dtype in SINGLE)


def wide(t: Tensor) -> Tensor:
    """In double precision, where no kernel is."""
    return t.detach().to(torch.complex128 if t.is_complex() else torch.float64).requires_grad_()


def same_as_float64(f: Callable[..., Tensor], given: list[Tensor], G: Tensor) -> None:
    exact = [wide(t) for t in given]
    found, wanted = f(*given), f(*exact)
    both = (
        (found, *torch.autograd.grad(found, given, G)),
        (wanted, *torch.autograd.grad(wanted, exact, wide(G).detach())),
    )
    for i, (ours, right) in enumerate(zip(*both, strict=True)):
        assert ours.dtype in SINGLE
        error = (ours.detach() - right.detach()).abs().max()
        assert error <= 4e-6 * max(1.0, float(right.detach().abs().max())), i


@pytest.mark.parametrize("dtype", SINGLE)
@pytest.mark.parametrize("constant", [False, True], ids=["by step", "constant"])
@pytest.mark.parametrize("first", [False, True], ids=["from zero", "from h0"])
@pytest.mark.parametrize(("T", "B", "n"), SIZES)
def test_scan(T: int, B: int, n: int, first: bool, constant: bool, dtype: torch.dtype) -> None:
    shapes = [(n,) if constant else (T, B, n), (T, B, n), (B, n)][: 2 + first]
    given = [torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in shapes]
    same_as_float64(scan, given, torch.randn(T, B, n, dtype=dtype))


@pytest.mark.parametrize("first", [False, True], ids=["from zero", "from h0"])
@pytest.mark.parametrize(("T", "B", "n"), SIZES)
def test_gated_scan(T: int, B: int, n: int, first: bool) -> None:
    given = [3 * torch.randn(T, B, n), torch.randn(T, B, n), torch.randn(B, n)][: 2 + first]
    same_as_float64(gated_scan, [t.requires_grad_() for t in given], torch.randn(T, B, n))


def test_many_steps_and_gates_at_their_ends() -> None:
    T = 100
    angles = torch.polar(torch.tensor([0.999, 1.0, 0.5]), torch.tensor([0.1, 3.0, 1.0]))
    b = torch.randn(T, 2, 3, dtype=torch.complex64)
    same_as_float64(scan, [t.requires_grad_() for t in (angles, b)], torch.randn_like(b) / T)
    gates = torch.tensor([-100.0, -20.0, 0.0, 20.0, 100.0]).repeat(T, 1, 1)
    content = torch.randn(T, 1, 5)
    same_as_float64(
        gated_scan, [t.requires_grad_() for t in (gates, content)], torch.randn_like(content)
    )


def test_a_step_alone_is_what_is_added() -> None:
    """With one step, states are the inputs and gradients pass through, even for NaN factors."""
    a = torch.full((1, 1, 3), torch.nan, requires_grad=True)
    b = torch.randn(1, 1, 3, requires_grad=True)
    for factors in (a, a[0, 0]):
        states = scan(factors, b)
        assert torch.equal(states, b)
        assert torch.equal(torch.autograd.grad(states.sum(), b)[0], torch.ones_like(b))


def test_strides_nothing_and_second_derivatives() -> None:
    a, b, G = (torch.randn(3, 4, 5).permute(2, 0, 1).requires_grad_() for _ in range(3))
    same_as_float64(scan, [a, b], G.detach())
    same_as_float64(gated_scan, [a, b], G.detach())
    for f in (scan, gated_scan):
        slope = torch.autograd.grad(f(a, b), a, G.detach(), create_graph=True)[0]
        found = torch.autograd.grad(slope.square().sum(), b)[0]
        exact = [wide(t) for t in (a, b)]
        slope = torch.autograd.grad(f(*exact), exact[0], wide(G).detach(), create_graph=True)[0]
        wanted = torch.autograd.grad(slope.square().sum(), exact[1])[0]
        assert (found - wanted).norm() <= 1e-5 * wanted.norm()
    assert scan(torch.ones(3), torch.ones(2, 0, 3)).shape == (2, 0, 3)
    assert gated_scan(torch.ones(2, 0, 3), torch.ones(2, 0, 3)).shape == (2, 0, 3)


def test_where_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert not scans.runs_in_one_kernel(torch.ones(1))
    monkeypatch.setattr(scans, "triton_runs_on", lambda device: True)
    assert not scans.runs_in_one_kernel(torch.ones(1))

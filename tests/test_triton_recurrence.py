"""The loop over time in one kernel, run by Triton's interpreter, against float64."""

import os

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed: Linux only")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("a GPU is here: test_gpu.py runs the kernels on it", allow_module_level=True)

from svdbench.kernels import triton_recurrence
from svdbench.nn import recurrence_loops
from svdbench.nn.activations import ACTIVATIONS
from svdbench.nn.recurrence import recurrence, recurrence_reference

pytestmark = [
    pytest.mark.usefixtures("one_thread", "poisoned"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # NumPy's, of the poison
]

NAMES = ("tanh", "relu", "identity", "modrelu")


@pytest.fixture
def in_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends the loops of tensors on the CPU to the kernel, too."""
    monkeypatch.setattr(recurrence_loops, "runs_in_one_kernel", lambda *_: True)


def arguments(phi: str, T: int, B: int, n: int, h0: bool) -> dict[str, Tensor]:
    given = {"inputs": torch.randn(T, B, n), "W": torch.randn(n, n) / n**0.5}
    if h0:
        given["h0"] = torch.randn(B, n)
    if phi == "modrelu":
        given["bias"] = torch.linspace(-0.5, 0.5, n)
    return {name: tensor.requires_grad_() for name, tensor in given.items()}


def same_as_float64(given: dict[str, Tensor], phi: str) -> None:
    states = recurrence(**given, activation=phi)
    wide = {name: t.detach().double().requires_grad_() for name, t in given.items()}
    exact = recurrence_reference(**wide, activation=phi)
    G = torch.randn_like(states)
    found = states, *torch.autograd.grad(states, list(given.values()), G)
    right = exact, *torch.autograd.grad(exact, list(wide.values()), G.double())
    for name, a, b in zip(("states", *given), found, right, strict=True):
        error = (a - b).detach().abs().max()
        assert error <= 4e-6 * max(1.0, float(b.detach().abs().max())), name


@pytest.mark.usefixtures("in_one_kernel")
@pytest.mark.parametrize("h0", [True, False])
@pytest.mark.parametrize(("T", "B", "n"), [(1, 1, 1), (1, 17, 5), (5, 1, 17), (3, 18, 33)])
@pytest.mark.parametrize("phi", NAMES)
def test_values_and_gradients(phi: str, T: int, B: int, n: int, h0: bool) -> None:
    same_as_float64(arguments(phi, T, B, n, h0), phi)


@pytest.mark.usefixtures("in_one_kernel")
@pytest.mark.parametrize("h0", [True, False])
@pytest.mark.parametrize("n", [100, 144])
def test_many_units(n: int, h0: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """W on chip; and in pieces, from one step's states in memory to the next."""
    config = triton_recurrence.recurrence_config(n, "bf16x6", True)
    assert config["RESIDENT"] == (n == 100)
    config["PRECISION"] = "ieee"  # the interpreter's only one
    monkeypatch.setattr(triton_recurrence, "recurrence_config", lambda *_: config)
    same_as_float64(arguments("tanh", 3, 2, n, h0), "tanh")


@pytest.mark.usefixtures("in_one_kernel")
def test_strides_compilation_and_nothing() -> None:
    given = arguments("tanh", 4, 3, 6, h0=True)
    given["inputs"] = torch.randn(3, 6, 4).permute(2, 0, 1).requires_grad_()
    given["W"] = given["W"].detach().t().requires_grad_()
    same_as_float64(given, "tanh")
    compiled = torch.compile(recurrence, backend="aot_eager", fullgraph=True)
    states, eager = compiled(**given), recurrence(**given)
    assert torch.equal(states, eager)
    wanted = list(given.values())
    found = (torch.autograd.grad(each.sum(), wanted) for each in (states, eager))
    assert all(map(torch.equal, *found))
    assert recurrence(torch.randn(0, 3, 6), torch.eye(6)).shape == (0, 3, 6)


@pytest.mark.usefixtures("in_one_kernel")
def test_nan_stays_nan_and_large_inputs_saturate() -> None:
    inputs = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, -1e30, 0.0, 1e-30, -1e-4])
    for phi in ("tanh", "relu", "identity"):
        states = recurrence(inputs.view(1, 1, 8), torch.zeros(8, 8), activation=phi)
        expected = ACTIVATIONS[phi].plain(inputs, None).view(1, 1, 8)
        torch.testing.assert_close(states, expected, rtol=1e-6, atol=0, equal_nan=True)


def test_tanh_has_the_digits_of_its_argument() -> None:
    z = torch.cat([torch.logspace(-12, 1.3, 300), -torch.logspace(-12, 1.3, 300)])
    states = triton_recurrence.forward(z.view(1, -1, 1), torch.zeros(1, 1), None, None, "tanh")
    exact = z.double().tanh()
    assert float(((states.view(-1) - exact) / exact).abs().max()) < 5e-7


def test_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, tanh = recurrence_loops.runs_in_one_kernel, ACTIVATIONS["tanh"]
    gpu, float32 = torch.device("cuda", 1), torch.float32
    monkeypatch.setattr(recurrence_loops, "triton_runs_on", lambda device: True)
    assert runs(gpu, float32, 256, tanh)
    assert runs(gpu, float32, 127, tanh)
    assert not runs(gpu, float32, 250, tanh)
    assert not runs(gpu, float32, 272, tanh)
    assert not runs(gpu, torch.float64, 64, tanh)
    assert not runs(gpu, torch.bfloat16, 64, tanh)
    assert not runs(torch.device("cpu"), float32, 64, tanh)
    assert not runs(gpu, float32, 64, ACTIVATIONS["complex_modrelu"])
    monkeypatch.setattr(recurrence_loops, "triton_runs_on", lambda device: False)
    assert not runs(gpu, float32, 64, tanh)

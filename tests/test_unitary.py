"""``orthogonal`` of complex weights: unitary matrices of any determinant."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from svdbench.kernels import apply_reflectors_reference
from svdbench.nn import orthogonal

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(4, 4), (5, 3), (3, 5), (1, 1), (2, 3, 3), (2, 4, 2)]


def module_of(weight: Tensor) -> nn.Module:
    module = nn.Module()
    module.weight = nn.Parameter(weight)
    return module


def unitary(*shape: int, seed: int = 0, dtype: torch.dtype = torch.complex128) -> Tensor:
    """Orthonormal columns, or rows."""
    generator = torch.Generator().manual_seed(seed)
    W = torch.randn(shape, dtype=dtype, generator=generator)
    Q = torch.linalg.qr(W if shape[-2] >= shape[-1] else W.mT).Q
    return Q if shape[-2] >= shape[-1] else Q.mT


def assert_unitary(weight: Tensor) -> None:
    W = weight.detach() if weight.shape[-2] >= weight.shape[-1] else weight.detach().mH
    eye = torch.eye(W.shape[-1], dtype=W.dtype).expand(*W.shape[:-2], -1, -1)
    torch.testing.assert_close(W.mH @ W, eye)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("shape", SHAPES)
def test_starts_as_torchs_own_and_takes_any_unitary_weight(shape: tuple, dtype: torch.dtype):
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=dtype)
    module, other = module_of(weight.clone()), module_of(weight.clone())
    orthogonal(module)
    if shape[-1] == shape[-2]:  # torch completes others at random, and starts elsewhere
        parametrizations.orthogonal(other)
        torch.testing.assert_close(module.weight, other.weight)
    assert_unitary(module.weight)
    original = module.parametrizations.weight.original
    assert original.shape == shape
    assert original.dtype == dtype
    for W in (unitary(*shape, dtype=dtype), 1j * unitary(*shape, seed=1, dtype=dtype)):
        module.weight = W
        torch.testing.assert_close(module.weight.detach(), W)
        twin = copy.deepcopy(module)
        twin.load_state_dict(module.state_dict())
        assert torch.equal(twin.weight, module.weight)
    real = torch.eye(*shape[-2:]).expand(shape)
    module.weight = real
    torch.testing.assert_close(module.weight.detach(), real.to(dtype))
    module.weight = -real
    torch.testing.assert_close(module.weight.detach(), -real.to(dtype))


def test_formula():
    module = orthogonal(module_of(unitary(4, 4)))
    V = torch.randn(4, 4, dtype=torch.complex128)
    found = module.parametrizations.weight[0](V)
    expected = torch.eye(4, dtype=V.dtype)
    for v in V.flip(0):
        expected = expected - 2 * torch.outer(v, v.conj() @ expected) / v.norm() ** 2
    phases = V.diagonal() / V.diagonal().abs()
    torch.testing.assert_close(found, expected * phases)
    torch.testing.assert_close(
        found, apply_reflectors_reference(V, torch.eye(4, dtype=V.dtype)) * phases
    )
    V[2, 2] = 0  # no phase: that of 1
    assert_unitary(module.parametrizations.weight[0](V))


@pytest.mark.parametrize("start", ["identity", "minus identity", "random"])
@pytest.mark.parametrize("shape", [(3, 3), (5, 5), (5, 3), (3, 5), (1, 1)])
def test_every_direction_can_be_moved_in(shape: tuple[int, int], start: str):
    W = unitary(*shape)
    if start != "random":
        W = torch.eye(*shape, dtype=W.dtype) * (1 if start == "identity" else -1)
    module = orthogonal(module_of(W))
    entry = module.parametrizations.weight
    V = torch.view_as_real(entry.original.detach())
    J = torch.autograd.functional.jacobian(
        lambda V: torch.view_as_real(entry[0](torch.view_as_complex(V))), V
    )
    d, r = max(shape), min(shape)
    assert torch.linalg.matrix_rank(J.reshape(2 * d * r, -1), rtol=1e-8) == 2 * d * r - r * r


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 2, 2)])
def test_gradients(shape: tuple[int, ...]):
    entry = orthogonal(module_of(unitary(*shape))).parametrizations.weight
    V = torch.randn(shape, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(entry[0], (V,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(entry[0], (V,))


def test_training_reaches_another_determinant():
    target = unitary(4, 4, seed=5)
    module = orthogonal(module_of(torch.eye(4, dtype=target.dtype)))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.03)
    for _ in range(400):
        optimizer.zero_grad()
        loss = (module.weight - target).abs().square().sum()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3
    assert_unitary(module.weight)
    parametrize.remove_parametrizations(module, "weight")
    assert_unitary(module.weight)


def test_in_a_layer_transferred_and_without_data():
    layer = orthogonal(nn.Linear(3, 5, dtype=torch.complex64))
    x, W = torch.randn(2, 3, dtype=torch.complex64), layer.weight.detach().clone()
    other = nn.Linear(3, 5, dtype=torch.complex64)
    parametrize.transfer_parametrizations_and_params(layer, other)
    assert torch.equal(layer.weight, W)
    assert torch.equal(other.weight, W)
    meta = orthogonal(nn.Linear(3, 5, dtype=torch.complex64, device="meta"))
    meta.load_state_dict(layer.state_dict(), assign=True)
    assert torch.equal(meta(x), layer(x))


@pytest.mark.parametrize("name", ["cayley", "matrix_exp"])
def test_checkpoints_of_torch(name: str):
    source = nn.Linear(4, 4, dtype=torch.complex128)
    parametrizations.orthogonal(source, "weight", name)
    layer = orthogonal(nn.Linear(4, 4, dtype=torch.complex128))
    layer.load_state_dict(source.state_dict())
    torch.testing.assert_close(layer.weight, source.weight)
    with torch.no_grad():
        source.parametrizations.weight.original[1, 0] = 1j
    with pytest.raises(RuntimeError, match="does not say which map"):
        layer.load_state_dict(source.state_dict())


def test_what_is_not_complex_stays_apart():
    with pytest.raises(ValueError, match=r"complex 4×3 weight needs 3 reflectors or more, not 2"):
        orthogonal(nn.Linear(3, 4, dtype=torch.complex64), n_reflectors=2)
    more = orthogonal(nn.Linear(3, 4, dtype=torch.complex64), n_reflectors=4)
    assert_unitary(more.weight)
    layer = orthogonal(nn.Linear(3, 4))
    with pytest.raises(ValueError, match=r"the layer is real: assign its \.real"):
        layer.weight = unitary(4, 3)

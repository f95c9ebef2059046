"""``SpectralRNN`` and ``OrthogonalRNN`` where PyTorch's own tests use ``torch.nn.RNN``."""

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import grad
from torch.utils._pytree import tree_leaves

from svdbench.members import MODELS
from svdbench.nn import OrthogonalRNN, OrthogonalWeight, SpectralRNN, SpectralWeight, SVDLinear

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = [SpectralRNN, OrthogonalRNN]
Network = SpectralRNN | OrthogonalRNN
BIG: dict[str, Any] = {"num_layers": 2, "bidirectional": True}


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=tolerance)


def double(kind: type[Network], **options: Any) -> Network:
    return kind(3, 6, **options, dtype=torch.float64)


def sample(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def values_and_gradients(module: nn.Module, x: Tensor, *rest: Any) -> list[Tensor]:
    """Output, last states, and the gradients of a loss at the input and all parameters."""
    x = x.detach().requires_grad_()
    output, last = module(x, *rest)
    wanted = [x, *(t for t in rest if t is not None), *module.parameters()]
    return [output, last, *grad(output.square().sum() + last.sum(), wanted)]


# --- modules made without data -----------------------------------------------------------


def on_meta(kind: Any, *sizes: int, **options: Any) -> nn.Module:
    return kind(*sizes, **options, device="meta")


def in_a_context(kind: Any, *sizes: int, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return kind(*sizes, **options)


def emptied(kind: Any, *sizes: int, **options: Any) -> nn.Module:
    return on_meta(kind, *sizes, **options).to_empty(device="cpu")


LAYERS: list[tuple[type[nn.Module], tuple[int, ...], dict[str, Any]]] = [
    (SpectralRNN, (3, 6), {"nonlinearity": "modrelu"}),
    (SpectralRNN, (3, 6), {"m1": 2, "m2": 3, "init": "random", "bias": False}),
    (OrthogonalRNN, (3, 6), BIG),
    (SpectralWeight, (6, 2, 3), {}),
    (OrthogonalWeight, (6, 2), {}),
    (SVDLinear, (3, 6), {}),
]


@pytest.mark.parametrize("way", [on_meta, in_a_context, emptied, nn.utils.skip_init])
@pytest.mark.parametrize(("kind", "sizes", "options"), LAYERS)
def test_made_without_data_then_loaded(
    kind: type[nn.Module], sizes: tuple, options: dict, way: Any, poisoned: None
):
    """Nothing that the output depends on is outside of ``state_dict``."""
    module, other = kind(*sizes, **options), way(kind, *sizes, **options)
    empty = way in (on_meta, in_a_context)
    assert all(t.is_meta == empty for t in (*other.parameters(), *other.buffers()))
    other.load_state_dict(module.state_dict(), assign=True)
    x = () if "Weight" in kind.__name__ else (torch.randn(5, 2, 3),)
    for a, b in zip(*(tree_leaves(m(*x)) for m in (module, other)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", MODELS.names())
def test_models_made_without_data_then_loaded(name: str, poisoned: None):
    sizes = {"input_size": 3, "hidden_size": 6, "output_size": 2}
    model = MODELS.load(name, **sizes)
    with torch.device("meta"):
        other = MODELS.load(name, **sizes)
    assert all(t.is_meta for t in (*other.parameters(), *other.buffers()))
    other.load_state_dict(model.state_dict(), assign=True)
    x = torch.randn(5, 2, 3)
    assert torch.equal(other(x), model(x))


def owners(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that own parameters themselves, in the order of PyTorch's deferred start."""
    return (m for m in module.modules() if next(m.parameters(recurse=False), None) is not None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("init", ["henaff", "identity"])
def test_deferred_start(kind: type[Network], init: str, poisoned: None):
    """Each module by itself, as FSDP has it: U and V must fit each other in the end."""
    options = {"nonlinearity": "modrelu", "init": init}
    rnn, made = kind(3, 8, **options, device="meta"), kind(3, 8, **options)
    for module in owners(rnn):
        module.to_empty(device="cpu", recurse=False)
        module.reset_parameters()
    layer = rnn.layers[0]
    W = layer.weight().detach()
    assert close(W.mT @ W, torch.eye(8), 1e-5)
    outside = W - torch.block_diag(*(W[i : i + 2, i : i + 2] for i in range(0, 8, 2)))
    assert close(outside, torch.zeros(8, 8), 1e-5)  # 2×2 rotations, not two starts mixed
    assert layer.input.weight.abs().max() <= 8**-0.5
    assert layer.input.weight.abs().max() > 0.7 * 8**-0.5
    assert not layer.modrelu_bias.any()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(3.0)
    made.reset_parameters()
    assert not any((parameter == 3.0).any() for parameter in made.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_reset_is_the_first_start(kind: type[Network]):
    torch.manual_seed(1)
    rnn = kind(3, 6, **BIG, nonlinearity="modrelu", init="random")
    state = copy.deepcopy(rnn.state_dict())
    rnn.reset_parameters()
    assert not torch.equal(rnn.layers[0].weight.U.free, state["layers.0.weight.U.free"])
    torch.manual_seed(1)
    rnn.reset_parameters()
    for name, value in rnn.state_dict().items():
        assert torch.equal(value, state[name]), name
    for copied in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        copied.reset_parameters()
        assert not torch.equal(copied.layers[0].weight(), rnn.layers[0].weight())
        assert torch.equal(rnn.layers[0].weight.U.free, state["layers.0.weight.U.free"])


def test_reset_to_a_given_matrix():
    W = torch.linalg.qr(sample(6, 6)).Q
    weight = SpectralWeight(6, 6, 6, init=W, dtype=torch.float64)
    with torch.no_grad():
        for parameter in weight.parameters():
            parameter.normal_()
    weight.reset_parameters()
    assert close(weight(), W, 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_fake_tensors(kind: type[Network]):
    with FakeTensorMode():
        rnn = kind(3, 6, **BIG, nonlinearity="modrelu")
        rnn.reset_parameters()
        assert rnn.layers[0].weight.U.free.device.type == "cpu"


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Any]:
    """A process alone, as a device mesh."""
    from torch.distributed.device_mesh import init_device_mesh

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
@pytest.mark.parametrize("kind", KINDS)
def test_deferred_start_of_dtensors(kind: type[Network], mesh: Any):
    from torch.distributed.fsdp import fully_shard

    rnn = kind(3, 6, nonlinearity="modrelu", device="meta")
    fully_shard(rnn, mesh=mesh)
    rnn.to_empty(device="cpu")
    for module in owners(rnn):
        module.reset_parameters()
    output, _ = rnn(torch.randn(5, 2, 3))
    output.sum().backward()
    W = rnn.layers[0].weight
    assert type(W.U.free).__name__ == "DTensor"
    assert W.U.free.grad.full_tensor().isfinite().all()
    plain = kind(3, 6, nonlinearity="modrelu")
    plain.load_state_dict({k: v.full_tensor() for k, v in rnn.state_dict().items()})
    rotation = plain.layers[0].weight().detach()
    assert close(rotation.mT @ rotation, torch.eye(6), 1e-5)

"""``orthogonal`` under transforms of functions, and in graphs: compiled, exported, traced."""

import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from svdbench.nn import SVDLinear, orthogonal

pytestmark = pytest.mark.usefixtures("one_thread")


def linear(rows: int = 6, columns: int = 6, **options) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(columns, rows, **options)


def pure(module: nn.Module) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    entry = module.parametrizations.weight
    return entry[0], entry.original.detach().clone()


@pytest.mark.parametrize("shape", [(4, 4), (4, 2), (2, 4)])
def test_forward_mode_and_batched_gradients(shape: tuple[int, int]):
    f, V = pure(orthogonal(linear(*shape, dtype=torch.float64)))
    J = torch.autograd.functional.jacobian(f, V)
    torch.testing.assert_close(torch.func.jacfwd(f)(V), J)
    torch.testing.assert_close(torch.func.jacrev(f)(V), J)
    torch.testing.assert_close(torch.autograd.functional.jacobian(f, V, vectorize=True), J)
    forward = torch.autograd.functional.jacobian(f, V, vectorize=True, strategy="forward-mode")
    torch.testing.assert_close(forward, J)
    tangent = torch.randn_like(V)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(V, tangent)
        found = torch.autograd.forward_ad.unpack_dual(f(dual)).tangent
    torch.testing.assert_close(found, torch.tensordot(J, tangent, 2))

    def along(V: Tensor) -> Tensor:
        return torch.func.jvp(f, (V,), (tangent,))[1]

    second = torch.func.jvp(along, (V,), (tangent,))[1]
    step = 1e-5
    torch.testing.assert_close(
        second, (along(V + step * tangent) - along(V - step * tangent)) / (2 * step),
        rtol=1e-6, atol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("n", [None, 2])
@pytest.mark.parametrize("shape", [(6, 6), (6, 4), (4, 6)])
def test_traced_and_exported(shape: tuple[int, int], n: int | None):
    layer = orthogonal(linear(*shape), n_reflectors=n).eval()
    x, others = torch.randn(3, shape[1]), [torch.randn(b, shape[1]) for b in (1, 8)]
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},)).module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(layer, x)
    for y in (x, *others):
        torch.testing.assert_close(exported(y), layer(y))
        torch.testing.assert_close(traced(y), layer(y))
    # Neither holds numbers in place of the parameter.
    layer.weight = torch.eye(*shape)
    for graph in (exported, traced):
        graph.load_state_dict(layer.state_dict())
        torch.testing.assert_close(graph(x), layer(x))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(6, 6), (6, 4), (4, 6)])
def test_onnx(shape: tuple[int, int]):
    for needed in ("onnx", "onnxscript"):
        pytest.importorskip(needed)
    runtime = pytest.importorskip("onnxruntime")
    layer = orthogonal(linear(*shape)).eval()
    batch = torch.export.Dim("batch")
    x = torch.randn(3, shape[1])
    program = torch.onnx.export(
        layer, (x,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False
    )
    file = io.BytesIO()
    program.save(file)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for y in (x, torch.randn(8, shape[1])):
        (found,) = session.run(None, {session.get_inputs()[0].name: y.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), layer(y).detach(), atol=1e-5, rtol=1e-5)


def test_compiled_once_for_all_batches():
    torch._dynamo.reset()
    layer, counts = orthogonal(linear()), []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        counts.append(1)
        return graph.forward

    compiled = torch.compile(layer, backend=backend, fullgraph=True, dynamic=True)
    for b in range(2, 12):
        x = torch.randn(b, 6)
        torch.testing.assert_close(compiled(x), layer(x))
    assert len(counts) <= 2


def test_traced_symbolically():
    model = nn.Sequential(orthogonal(linear()), nn.ReLU())
    x = torch.randn(2, 6)
    for module in (model, model[0]):
        torch.testing.assert_close(torch.fx.symbolic_trace(module)(x), module(x))


@pytest.mark.parametrize("shape", [(6, 6), (6, 4), (4, 6)])
def test_compiled_gradients(shape: tuple[int, int]):
    torch._dynamo.reset()
    layer = orthogonal(linear(*shape, dtype=torch.float64))
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True, dynamic=True)
    for b in (2, 5):
        x = torch.randn(b, shape[1], dtype=torch.float64)
        parameters = list(layer.parameters())
        found, expected = (
            torch.autograd.grad(f(x).square().sum(), parameters) for f in (compiled, layer)
        )
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
@pytest.mark.parametrize("deferred", [False, True])
def test_sharded(deferred: bool, mesh: Any):
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
    from torch.distributed.fsdp import fully_shard

    def make() -> nn.Module:
        return nn.Sequential(
            orthogonal(nn.Linear(6, 4)),
            orthogonal(nn.Linear(4, 6), n_reflectors=3),
            SVDLinear(6, 6),
        )

    source = make()
    with torch.device("meta" if deferred else "cpu"):
        model = make()
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    if deferred:
        model.to_empty(device="cpu")
        model[2].reset_parameters()
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, source.state_dict(), options=options)
    x = torch.randn(3, 6)
    y = model(x)
    torch.testing.assert_close(y, source(x))
    y.sum().backward()
    gradients = [p.grad.full_tensor() for p in model.parameters()]
    source(x).sum().backward()
    for a, p in zip(gradients, source.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad)

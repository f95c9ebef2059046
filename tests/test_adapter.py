"""``HouseholderAdapter`` against the dense WH, and as PyTorch and PEFT use such a layer."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from graphs import check_any_number_of_rows
from torch import Tensor, nn
from torch.autograd import grad, gradcheck, gradgradcheck

from svdbench.kernels import apply_reflectors_reference
from svdbench.nn import HouseholderAdapter

pytestmark = pytest.mark.usefixtures("one_thread")

# A layer and an input of it, by the sizes that matter.
LAYERS: dict[str, Callable[[], tuple[nn.Linear | nn.Conv2d, Tensor]]] = {
    "few rows": lambda: (nn.Linear(6, 8), torch.randn(3, 6)),
    "many rows": lambda: (nn.Linear(6, 3), torch.randn(5, 40, 6)),
    "no bias, one row": lambda: (nn.Linear(5, 4, bias=False), torch.randn(5)),
    "no row": lambda: (nn.Linear(5, 4), torch.randn(2, 0, 5)),
    "convolution": lambda: (nn.Conv2d(3, 4, 3), torch.randn(2, 3, 7, 6)),
    "all options": lambda: (
        nn.Conv2d(4, 6, (2, 3), (2, 1), (1, 2), (1, 2), 2, False, "reflect"),
        torch.randn(2, 4, 8, 9),
    ),
    "same": lambda: (nn.Conv2d(2, 2, 3, padding="same"), torch.randn(2, 4, 4)),
}


def random(layer: nn.Linear | nn.Conv2d, n: int = 4, **options: Any) -> HouseholderAdapter:
    """An adapter whose reflectors have left their start."""
    adapter = HouseholderAdapter(layer, n, **options)
    with torch.no_grad():
        adapter.reflectors.add_(torch.randn_like(adapter.reflectors))
    return adapter


def double(which: str) -> tuple[nn.Linear | nn.Conv2d, Tensor]:
    layer, x = LAYERS[which]()
    return layer.double(), x.double()


def dense(adapter: HouseholderAdapter) -> Tensor:
    """WH by the definition."""
    W, V = adapter.layer.weight, adapter.reflectors
    eye = torch.eye(V.shape[1], dtype=V.dtype)
    return (W.flatten(1) @ apply_reflectors_reference(V, eye)).view(W.shape)


def with_weight(adapter: HouseholderAdapter, W: Tensor, x: Tensor) -> Tensor:
    return torch.func.functional_call(adapter.layer, {"weight": W}, x)


def close(a: Tensor, b: Tensor, c: float = 200.0) -> bool:
    scale = max(b.abs().max().item(), 1.0) if b.numel() else 1.0
    return torch.allclose(a, b, rtol=0, atol=c * torch.finfo(b.dtype).eps * scale)


@pytest.mark.parametrize("which", LAYERS)
def test_it_starts_as_the_layer(which: str) -> None:
    layer, x = double(which)
    before = layer(x)
    assert close(HouseholderAdapter(layer, 4)(x), before)
    assert close(HouseholderAdapter(layer, 2).weight, layer.weight)


@pytest.mark.parametrize("which", LAYERS)
def test_it_multiplies_by_wh(which: str) -> None:
    layer, x = double(which)
    adapter = random(layer)
    x.requires_grad_()
    inputs = (x, adapter.reflectors)
    outs = [adapter(x), with_weight(adapter, dense(adapter), x)]
    assert close(*outs)
    G = torch.randn_like(outs[0])
    for a, b in zip(*(grad(out, inputs, G) for out in outs), strict=True):
        assert close(a, b)
    with torch.no_grad():
        assert close(adapter(x), outs[1])
    values, before = (torch.linalg.svdvals(W.flatten(1)) for W in (adapter.weight, layer.weight))
    assert close(values, before)


def test_both_ways_of_a_linear_layer() -> None:
    adapter = random(nn.Linear(8, 5))
    for rows, with_x, learns, built in [
        *((5, False, True, False), (6, False, True, True)),  # the fewer columns
        # 4·6·5 operations and rows·5 for the gradient at x, against 4·6·rows.
        *((6, True, True, False), (7, True, True, True)),
        *((5, True, False, False), (6, True, False, True)),
    ]:
        adapter.reflectors.requires_grad_(learns)
        x = torch.randn(rows, 8, requires_grad=with_x)
        assert adapter._build_is_cheaper(x) == built, (rows, with_x, learns)
    adapter.reflectors.requires_grad_()
    with torch.no_grad():
        assert adapter._build_is_cheaper(torch.randn(6, 8, requires_grad=True))


@pytest.mark.parametrize("which", ["few rows", "many rows", "convolution"])
def test_gradients(which: str) -> None:
    layer, x = double(which)
    adapter = random(layer, 2)
    x = x.flatten()[: 4 * 6].view(4, 6) if x.ndim == 3 else x[:1]

    def run(x: Tensor, V: Tensor) -> Tensor:
        return torch.func.functional_call(adapter, {"reflectors": V}, x)

    inputs = x.requires_grad_(), adapter.reflectors
    assert gradcheck(run, inputs, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(run, inputs)


def test_gradients_of_each_example() -> None:
    adapter, x = random(nn.Linear(6, 8).double()), torch.randn(4, 6).double()

    def loss(V: Tensor, x: Tensor) -> Tensor:
        return torch.func.functional_call(adapter, {"reflectors": V}, x).square().sum()

    V = adapter.reflectors.detach()
    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(V, x)
    for one, row in zip(found, x, strict=True):
        assert close(one, grad(adapter(row).square().sum(), adapter.reflectors)[0])


def test_rows_are_not_copied() -> None:
    """Neither those of x nor those of the result."""
    adapter, x = random(nn.Linear(32, 64)), torch.randn(2, 8, 32, requires_grad=True)
    G = torch.randn(2, 8, 64)
    with torch.autograd.profiler.profile() as trace:
        adapter(x).backward(G)
    names = {event.name for event in trace.function_events}
    assert "aten::mm" in names or "aten::addmm" in names
    assert not names & {"aten::clone", "aten::contiguous", "aten::_reshape_copy"}


@pytest.mark.parametrize("which", ["few rows", "all options"])
def test_merging_and_back(which: str) -> None:
    layer, x = double(which)
    adapter, W = random(layer), layer.weight
    tied, bits, y, expected = copy.copy(W), W.clone(), adapter(x), adapter.weight
    adapter.merge()
    merged = layer.weight
    adapter.merge()
    assert adapter.merged
    assert layer.weight is merged is adapter.weight
    assert torch.equal(merged, expected)
    assert not merged.requires_grad
    assert close(adapter(x), y)
    assert torch.equal(adapter(x), layer(x))
    assert torch.equal(W, bits)
    assert torch.equal(tied, bits)
    adapter.unmerge()
    adapter.unmerge()
    assert layer.weight is W
    assert torch.equal(W, bits)
    assert not adapter.merged
    assert torch.equal(adapter(x), y)
    with torch.inference_mode():
        adapter.merge()
    assert close(grad(adapter(x.requires_grad_()).sum(), x)[0], grad(layer(x).sum(), x)[0])


def test_copies_and_moves_of_a_merged_layer() -> None:
    layer, x = nn.Linear(6, 8), torch.randn(3, 6)
    adapter, W = random(layer), layer.weight.clone()
    y = adapter(x)
    adapter.merge()
    twin = copy.deepcopy(adapter).double()
    assert twin.merged
    assert close(twin(x.double()).float(), y)
    twin.unmerge()
    assert torch.equal(twin.layer.weight, W.double())
    assert adapter.merged
    file = io.BytesIO()
    torch.save(adapter, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    loaded.unmerge()
    assert torch.equal(loaded(x), y)
    adapter.reset_parameters()
    assert not adapter.merged
    assert torch.equal(layer.weight, W)
    assert close(adapter(x), layer(x))


def test_half_precision_comes_back_bit_for_bit() -> None:
    layer = nn.Linear(33, 20).bfloat16()
    adapter, W, x = random(layer), layer.weight.clone(), torch.randn(7, 33).bfloat16()
    exact = copy.deepcopy(adapter).double()(x.double())
    eps = torch.finfo(torch.bfloat16).eps
    for _ in range(3):
        assert (adapter(x) - exact).norm() < 2 * eps * exact.norm()
        adapter.merge()
        assert adapter(x).dtype == torch.bfloat16
        assert (adapter(x) - exact).norm() < 2 * eps * exact.norm()
        adapter.unmerge()
        assert torch.equal(layer.weight, W)


@pytest.mark.parametrize("rows", [3, 300])
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_reflectors_in_full_precision(rows: int, half: torch.dtype) -> None:
    """Around a layer in half precision they keep updates that half precision can't hold."""
    adapter = random(nn.Linear(16, 12).to(half), dtype=torch.float32)
    x = torch.randn(rows, 16).to(half)
    y = adapter(x)
    y.square().sum().backward()
    assert (y.dtype, adapter.reflectors.grad.dtype) == (half, torch.float32)
    exact = copy.deepcopy(adapter).double()(x.double())
    assert (y - exact).norm() < 2 * torch.finfo(half).eps * exact.norm()
    conv = random(nn.Conv2d(2, 3, 3).to(half), dtype=torch.float32)
    assert conv(torch.randn(2, 5, 5).to(half)).dtype == conv.weight.dtype == half


@pytest.mark.parametrize("which", ["few rows", "many rows", "convolution"])
def test_autocast(which: str) -> None:
    layer, x = LAYERS[which]()
    adapter = random(layer)
    exact = adapter(x)
    with torch.autocast("cpu", torch.bfloat16):
        for given in (x, x.bfloat16()):
            y = adapter(given)
            assert y.dtype == torch.bfloat16
            assert (y - exact).norm() < 0.02 * exact.norm()
        y.float().sum().backward()
    assert adapter.reflectors.grad.dtype == torch.float32


def test_complex_numbers() -> None:
    layer = nn.Linear(6, 4, dtype=torch.complex128)
    assert close(HouseholderAdapter(layer).weight.abs(), layer.weight.abs())
    adapter = random(layer)
    for rows in (2, 50):
        x = torch.randn(rows, 6, dtype=torch.complex128, requires_grad=True)
        outs = adapter(x), with_weight(adapter, dense(adapter), x)
        grads = [grad(out.abs().sum(), (x, adapter.reflectors)) for out in outs]
        for a, b in zip(*[(out, *g) for out, g in zip(outs, grads, strict=True)], strict=True):
            assert close(torch.view_as_real(a), torch.view_as_real(b))


def test_training_changes_the_reflectors_alone() -> None:
    layer, x = nn.Linear(16, 16), torch.randn(64, 16)
    Q = torch.linalg.qr(torch.eye(16) + 0.1 * torch.randn(16, 16)).Q
    target = layer(x @ Q.mT * torch.linalg.qr(Q).R.diagonal().sign().prod()).detach()
    adapter, before = HouseholderAdapter(layer, 16), copy.deepcopy(layer.state_dict())
    learning = [name for name, p in adapter.named_parameters() if p.requires_grad]
    assert learning == ["reflectors"]
    optimizer = torch.optim.Adam([adapter.reflectors], lr=0.01)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        losses.append((adapter.train()(x) - target).square().mean())
        losses[-1].backward()
        optimizer.step()
    assert adapter.eval()(x).isfinite().all()
    assert losses[-1] < 0.1 * losses[0]
    assert all(torch.equal(layer.state_dict()[key], before[key]) for key in before)
    values = torch.linalg.svdvals(adapter.weight)
    assert torch.allclose(values, torch.linalg.svdvals(layer.weight), atol=1e-5)


def test_a_state_holds_the_reflectors_alone() -> None:
    def make() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(27, 4))

    source, x = make(), torch.randn(2, 2, 5, 5)
    base = copy.deepcopy(source.state_dict())
    source[0], source[2] = random(source[0]), random(source[2])
    source[2].merge()
    state = source.state_dict()
    assert list(state) == ["0.reflectors", "2.reflectors"]
    other = make()
    other[0], other[2] = HouseholderAdapter(other[0], 4), HouseholderAdapter(other[2], 4)
    other[2].merge()
    other.load_state_dict(state)
    other.load_state_dict(base, strict=False)  # under the names of the layers without adapters
    assert other[2].merged
    assert close(other(x), source(x))
    other[2].unmerge()
    assert all(torch.equal(other[i].layer.weight, base[f"{i}.weight"]) for i in (0, 2))
    other.load_state_dict({**base, **state})
    other[0].layer.load_state_dict({key: base[f"0.{key}"] for key in ("weight", "bias")})
    with pytest.raises(RuntimeError, match=r'Missing key.*"0.reflectors", "2.reflectors"'):
        other.load_state_dict(base)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"0.layer.scale"'):
        other.load_state_dict({**state, "0.layer.scale": x})
    with pytest.raises(RuntimeError, match=r"size mismatch for (2\.)?(layer\.)?weight"):
        other.load_state_dict({**state, "2.weight": x})


def test_assigned_tensors_are_not_written_to() -> None:
    source = random(nn.Linear(5, 4))
    state = {**source.state_dict(), "layer.weight": torch.randn(4, 5), "bias": torch.randn(4)}
    bits = state["layer.weight"].clone()
    adapter = HouseholderAdapter(nn.Linear(5, 4), 4)
    adapter.merge()
    adapter.load_state_dict(state, assign=True)
    assert adapter.merged
    assert torch.equal(state["layer.weight"], bits)
    source.load_state_dict(state)
    x = torch.randn(3, 5)
    assert close(adapter(x), source(x))


@pytest.mark.parametrize("make", [lambda: nn.Linear(6, 8), lambda: nn.Conv2d(2, 3, 3)])
def test_made_without_data(make: Callable[[], nn.Linear | nn.Conv2d]) -> None:
    source = random(make())
    x = torch.randn(3, 6) if isinstance(source.layer, nn.Linear) else torch.randn(2, 5, 5)
    whole = {**source.state_dict(), **source.layer.state_dict(prefix="layer.")}
    with torch.device("meta"):
        assigned, emptied = (HouseholderAdapter(make(), 4) for _ in range(2))
        assert assigned(x.to("meta")).shape == source(x).shape
    with pytest.raises(RuntimeError, match=r'Missing key.*"layer.weight", "layer.bias"'):
        assigned.load_state_dict(source.state_dict(), assign=True)
    assigned.load_state_dict(whole, assign=True)
    assert torch.equal(assigned(x), source(x))
    emptied.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in emptied.parameters():
            tensor.fill_(torch.nan)
    emptied.reset_parameters()
    emptied.layer.load_state_dict(source.layer.state_dict())
    assert close(emptied(x), source.layer(x))
    emptied.load_state_dict(source.state_dict())
    assert torch.equal(emptied(x), source(x))


def test_one_graph_for_any_number_of_rows() -> None:
    adapter = random(nn.Linear(6, 3))
    compiled = check_any_number_of_rows(adapter, 6, close)
    y = torch.randn(1999, 6)
    adapter.merge()
    assert torch.equal(compiled(y), adapter(y))


@pytest.mark.parametrize("which", ["few rows", "convolution"])
def test_compiled_gradients(which: str) -> None:
    torch._dynamo.reset()
    layer, x = double(which)
    adapter = random(layer)
    compiled = torch.compile(adapter, fullgraph=True, backend="aot_eager")
    outs = adapter(x), compiled(x)
    assert close(*outs)
    grads = [grad(out.square().sum(), adapter.reflectors)[0] for out in outs]
    assert close(*grads)
    exported = torch.export.export(adapter, (x,)).module()
    assert close(exported(x), outs[0])


@pytest.mark.slow
@pytest.mark.parametrize("which", ["few rows", "all options"])
def test_onnx(which: str) -> None:
    for needed in ("onnx", "onnxscript"):
        pytest.importorskip(needed)
    runtime = pytest.importorskip("onnxruntime")
    layer, x = LAYERS[which]()
    adapter, shapes = random(layer).eval(), ({0: torch.export.Dim("rows")},)
    program = torch.onnx.export(adapter, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False)
    file = io.BytesIO()
    program.save(file)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for given in (x, torch.cat([x, x])):
        (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        assert close(torch.from_numpy(found), adapter(given))


def test_a_linear_layer_with_a_forward_pass_of_its_own() -> None:
    """As a quantised one: it is called, its weight isn't looked into."""

    class Packed(nn.Linear):
        def __init__(self, whole: nn.Linear) -> None:
            super().__init__(6, 3)
            self.whole = whole.weight.detach()
            self.weight = nn.Parameter(torch.zeros(9, 1, dtype=torch.uint8), requires_grad=False)

        def forward(self, input: Tensor) -> Tensor:
            return nn.functional.linear(input, self.whole, self.bias)

    layer = Packed(nn.Linear(6, 3))
    adapter, x = random(layer), torch.randn(50, 6, requires_grad=True)
    assert adapter.reflectors.dtype == torch.float32
    H = apply_reflectors_reference(adapter.reflectors, torch.eye(6))
    assert close(adapter(x), layer(x @ H.mT))
    adapter(x).sum().backward()
    assert adapter.reflectors.grad is not None
    with pytest.raises(TypeError, match=r"the weight is torch\.uint8"):
        adapter.merge()
    assert not adapter.merged


def test_in_the_place_of_a_layer_whose_weight_is_read() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.randn(2, 3, 8)
    before = attention(x, x, x)[0]
    attention.out_proj = HouseholderAdapter(attention.out_proj, 2)
    assert close(attention(x, x, x)[0], before)
    attention(x, x, x)[0].sum().backward()
    assert attention.out_proj.reflectors.grad.abs().max() > 0


def test_wrong_arguments() -> None:
    parametrized = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))

    class Standardised(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return self._conv_forward(input, self.weight - self.weight.mean(), self.bias)

    wrong: list[tuple[type[Exception], tuple, str]] = [
        (TypeError, (nn.Conv1d(2, 2, 1),), "the layer is a Conv1d: give a torch.nn.Linear or"),
        (TypeError, (Standardised(2, 2, 1),), "the layer is a Standardised"),
        (TypeError, (HouseholderAdapter(nn.Linear(2, 2)),), "the layer is a HouseholderAdapter"),
        (TypeError, (nn.Linear(2, 2), 2.0), "n_reflectors is 2.0: give a whole number"),
        (ValueError, (nn.Linear(2, 2), 0), "n_reflectors is 0: give 2 or more"),
        (ValueError, (nn.Linear(2, 2), 3), "n_reflectors is 3: give an even number, such as 4"),
        (ValueError, (parametrized,), "the weight is parametrised"),
        (ValueError, (nn.LazyLinear(3),), "run the lazy module once before"),
    ]
    for error, arguments, message in wrong:
        with pytest.raises(error, match=message):
            HouseholderAdapter(*arguments)
    with pytest.raises(ValueError, match=r"x must be \(\.\.\., 3\), not \(2, 4\)"):
        HouseholderAdapter(nn.Linear(3, 5))(torch.zeros(2, 4))
    assert "n_reflectors=8, merged=False" in repr(HouseholderAdapter(nn.Linear(3, 5)))

"""``SpectralRNN`` and ``OrthogonalRNN`` where PyTorch's own tests use ``torch.nn.RNN``."""

import copy
import pickle
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad, grad
from torch.export import Dim, export
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, unpack_sequence
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
        output, last = rnn(torch.randn(5, 2, 3))
        (output.sum() + last.sum()).backward()
        assert output.shape == (5, 2, 12)
        assert all(p.grad.shape == p.shape for p in rnn.parameters())


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


# --- called as torch.nn.RNN --------------------------------------------------------------

OPTIONS = [
    dict(
        zip(
            ("num_layers", "nonlinearity", "bias", "batch_first", "bidirectional"), row, strict=True
        )
    )
    for row in product((1, 2), ("tanh", "relu"), (True, False), (False, True), (False, True))
]
IDS = ["-".join(str(value) for value in options.values()) for options in OPTIONS]


def states(rnn: Network, *batch: int) -> Tensor:
    return sample(len(rnn.layers), *batch, 6).requires_grad_()


@pytest.mark.parametrize("options", OPTIONS, ids=IDS)
def test_all_options_of_torch_rnn(options: dict[str, Any]):
    """Values and gradients, with a batch and without, with first states and without."""
    rnn = double(KINDS[options["num_layers"] - 1], **options)
    other = rnn.to_rnn()
    assert repr(other) == f"RNN({rnn.extra_repr()})".replace(", nonlinearity='relu'", "")
    assert [len(weights) for weights in rnn.all_weights] == [len(rnn.all_weights[0])] * len(
        other.all_weights
    )
    for batch in ((4,), (1,), ()):
        shape = (5, *batch, 3)
        if options["batch_first"] and batch:
            shape = (*batch, 5, 3)
        x = sample(*shape)
        for hx in (None, states(rnn, *batch)):
            found, wanted = values_and_gradients(rnn, x, hx), values_and_gradients(other, x, hx)
            inputs = 3 if hx is None else 4  # output, last states, the gradients at x and hx
            for a, b in zip(found[:inputs], wanted[:inputs], strict=True):
                assert close(a, b)
            by_name = dict(zip((n for n, _ in rnn.named_parameters()), found[inputs:], strict=True))
            for i, layer in enumerate(rnn.layers):
                per = 4 if options["bias"] else 2
                dM, dW, *db = wanted[inputs + per * i : inputs + per * (i + 1)]
                factors = list(layer.weight.named_parameters())
                pulled = grad(layer.weight(), [p for _, p in factors], dW)
                expected = {f"weight.{n}": g for (n, _), g in zip(factors, pulled, strict=True)}
                expected |= {"input.weight": dM, **({"input.bias": db[0]} if db else {})}
                for name, value in expected.items():
                    assert close(by_name[f"layers.{i}.{name}"], value, 1e-10), name


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_as_in_torch(kind: type[Network]):
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last") as seen:
        kind(3, 6, dropout=0.5)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rnn = double(kind, num_layers=2, dropout=0.5)
        other = rnn.to_rnn()
    assert other.dropout == 0.5
    x = sample(5, 4, 3)
    packed = pack_padded_sequence(x, torch.tensor([5, 3, 2, 2]))
    for given in (x, packed):
        outs = []
        for module in (rnn, other):
            torch.manual_seed(1)
            outs.append(tree_leaves(module(given))[0])
        assert close(*outs)
    assert not close(rnn(x)[0], rnn.eval()(x)[0])
    assert close(rnn(x)[0], rnn.to_rnn()(x)[0])  # which is in eval mode, too


@pytest.mark.parametrize("lengths", [[5, 4, 4, 1], [2, 5, 1, 3], [3], [4, 4], [1, 1, 1]])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences(lengths: list[int], batch_first: bool, bidirectional: bool):
    """In any order, as torch takes them, and as each of them alone."""
    kind = KINDS[len(lengths) % 2]
    rnn = double(kind, num_layers=2, batch_first=batch_first, bidirectional=bidirectional)
    other, B = rnn.to_rnn(), len(lengths)
    x = sample(*((B, 5) if batch_first else (5, B)), 3).requires_grad_()
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=False)
    for hx in (None, states(rnn, B)):
        wanted = [x] if hx is None else [x, hx]
        pieces = []
        for module in (rnn, other):
            output, last = module(packed, hx)
            assert type(output) is PackedSequence
            loss = output.data.square().sum() + last.sum()
            pieces.append([*tree_leaves(output), last, *grad(loss, wanted, retain_graph=True)])
        for a, b in zip(*pieces, strict=True):
            assert close(a, b)
        output, last = rnn(packed, hx)
        for i, (alone, found) in enumerate(
            zip(unpack_sequence(packed), unpack_sequence(output), strict=True)
        ):
            expected, final = rnn(alone, None if hx is None else hx[:, i])
            assert close(found, expected)
            assert close(last[:, i], final)
        dM = grad(output.data.square().sum(), rnn.layers[0].input.weight)[0]
        assert close(dM, grad(other(packed, hx)[0].data.square().sum(), other.weight_ih_l0)[0])


@pytest.mark.parametrize("nonlinearity", ["modrelu", "complex_modrelu", "identity"])
def test_packed_sequences_of_other_nonlinearities(nonlinearity: str):
    rnn = double(SpectralRNN, nonlinearity=nonlinearity, bidirectional=True)
    sequences = [sample(T, 3) for T in (2, 5, 3)]
    packed = pack_sequence(sequences, enforce_sorted=False)
    output, last = rnn(packed)
    alone = [rnn(sequence) for sequence in sequences]
    for found, (expected, _) in zip(unpack_sequence(output), alone, strict=True):
        assert close(found, expected)
    assert close(last, torch.stack([final for _, final in alone], 1))
    losses = output.data.square().sum(), sum(each.square().sum() for each, _ in alone)
    parameters = list(rnn.parameters())
    for a, b in zip(*(grad(loss, parameters) for loss in losses), strict=True):
        assert close(a, b, 1e-11)


def test_sorted_packed_sequences_have_no_indices():
    packed = pack_sequence([sample(3, 3), sample(2, 3)])
    output, last = double(SpectralRNN)(packed)
    assert output.sorted_indices is output.unsorted_indices is None
    assert torch.equal(output.batch_sizes, packed.batch_sizes)
    assert last.shape == (1, 2, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_torch_rnn(kind: type[Network]):
    rnn = double(kind, num_layers=2, nonlinearity="modrelu")
    rnn.flatten_parameters()
    x, hx = sample(5, 4, 3), states(rnn, 4)
    expected = rnn(x, hx)
    for found in (rnn(input=x, hx=hx), rnn(x, h0=hx)):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    with pytest.raises(TypeError, match="give one of them"):
        rnn(x, hx, h0=hx)
    named = [dict(layer.named_parameters()) for layer in rnn.layers]
    order = ["input.weight", "weight.U.free", "weight.V.free", "weight.singular_values.raw"]
    order = [*(name for name in order if name in named[0]), "input.bias", "modrelu_bias"]
    for weights, parameters in zip(rnn.all_weights, named, strict=True):
        assert len(weights) == len(parameters)
        assert all(a is parameters[name] for a, name in zip(weights, order, strict=True))
    with pytest.raises(TypeError, match="proj_size"):
        kind(3, 6, proj_size=2)


@pytest.mark.parametrize("kind", KINDS)
def test_without_sequences_or_steps(kind: type[Network]):
    rnn = double(kind, **BIG, nonlinearity="complex_modrelu")
    x = sample(5, 0, 3).requires_grad_()
    output, last = rnn(x, states(rnn, 0))
    assert (output.shape, last.shape) == ((5, 0, 12), (4, 0, 6))
    for gradient in grad(output.sum() + last.sum(), [x, *rnn.parameters()]):
        assert not gradient.any()
    for empty in (sample(0, 2, 3), sample(0, 3)):
        with pytest.raises(ValueError, match="no time steps"):
            rnn(empty)


def test_in_place_operations_on_results():
    """Those on last states, on several directions and without gradients; others are noticed."""
    rnn = double(SpectralRNN)
    x = sample(5, 2, 3)
    rnn(x)[1].mul_(2).sum().backward()
    double(SpectralRNN, bidirectional=True)(x)[0].mul_(2).sum().backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rnn(x)[0].mul_(2).sum().backward()


def test_messages_are_one_line():
    rnn = double(SpectralRNN, num_layers=2)
    x = sample(5, 4, 3)
    wrong: list[tuple[tuple, type[Exception], str]] = [
        ((x[..., :2],), ValueError, r"input must be \(T, B, 3\) or \(T, 3\), not \(5, 4, 2\)"),
        ((x[0, 0],), ValueError, r"input must be .*, not \(3,\)"),
        ((x.float(),), ValueError, "the input is torch.float32, the weights are torch.float64"),
        ((x, sample(2, 6)), ValueError, r"hx must be .* = \(2, 4, 6\), not \(2, 6\)"),
        ((x, sample(4, 2, 6)), ValueError, r"= \(2, 4, 6\), not \(4, 2, 6\)"),
        ((x[:, 0], sample(2, 1, 6)), ValueError, r"= \(2, 6\), not \(2, 1, 6\)"),
        (([1.0],), TypeError, "input is of type list: give a tensor or a PackedSequence"),
        ((pack_sequence([sample(2, 4)]),), ValueError, r"3 entries a step, not \(4,\)"),
        ((pack_sequence([sample(2, 3)]), states(rnn, 2)), ValueError, r"= \(2, 1, 6\), not"),
    ]
    for given, error, message in wrong:
        with pytest.raises(error, match=message) as raised:
            rnn(*given)
        assert "\n" not in str(raised.value)
    for options in ({"bias": 1}, {"batch_first": "yes"}, {"dropout": True}):
        with pytest.raises(TypeError, match="give"):
            SpectralRNN(3, 6, **options)
    with pytest.raises(ValueError, match=r"torch.nn.RNN has no nonlinearity 'modrelu'"):
        SpectralRNN(3, 6, nonlinearity="modrelu").to_rnn()


# --- transforms, compilers and exporters -------------------------------------------------


def functional(rnn: Network) -> tuple[dict[str, Tensor], Any]:
    """The parameters, and the output as a function of them and of x."""
    parameters = {name: p.detach() for name, p in rnn.named_parameters()}
    return parameters, lambda ps, x: torch.func.functional_call(rnn, ps, (x,))[0]


@pytest.mark.parametrize("kind", KINDS)
def test_forward_mode(kind: type[Network]):
    """Dual numbers, and jvp of jvp, against reverse mode."""
    rnn, x, t = double(kind, nonlinearity="modrelu"), sample(4, 2, 3), sample(4, 2, 3)
    parameters, run = functional(rnn)
    tangents = {name: torch.randn_like(p) for name, p in parameters.items()}
    with forward_ad.dual_level():
        dual = {n: forward_ad.make_dual(p, tangents[n]) for n, p in parameters.items()}
        primal, tangent = forward_ad.unpack_dual(run(dual, forward_ad.make_dual(x, t)))
    assert close(primal, rnn(x)[0])

    def along(s: Tensor) -> Tensor:
        return run({n: p + s * tangents[n] for n, p in parameters.items()}, x + s * t)

    s = torch.zeros((), dtype=torch.float64)
    first = torch.func.jacrev(along)
    assert close(tangent, first(s), 1e-10)
    one = torch.ones_like(s)
    second = torch.func.jvp(lambda s: torch.func.jvp(along, (s,), (one,))[1], (s,), (one,))[1]
    assert close(second, torch.func.jacrev(first)(s), 1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_batched_gradients(kind: type[Network], packed: bool):
    rnn = double(kind, bidirectional=True, nonlinearity="complex_modrelu")
    x = sample(4, 2, 3).requires_grad_()
    given = pack_padded_sequence(x, torch.tensor([4, 2])) if packed else x
    output = tree_leaves(rnn(given))[0]
    G, wanted = sample(3, *output.shape), [x, *rnn.parameters()]
    found = grad(output, wanted, G, is_grads_batched=True, retain_graph=True)
    alone = [grad(output, wanted, g, retain_graph=True) for g in G]
    for a, b in zip(found, zip(*alone, strict=True), strict=True):
        assert close(a, torch.stack(b), 1e-10)


@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
def test_vectorised_jacobians(strategy: str):
    rnn, x = double(SpectralRNN), sample(4, 2, 3)
    run, jacobian = (lambda x: rnn(x)[0]), torch.autograd.functional.jacobian
    assert close(jacobian(run, x, vectorize=True, strategy=strategy), jacobian(run, x))


@pytest.mark.parametrize("kind", KINDS)
def test_ensembles(kind: type[Network]):
    """As in the tutorial on model ensembling: vmap over stacked parameters."""
    rnns, x = [double(kind) for _ in range(3)], sample(4, 2, 3)
    parameters, _ = torch.func.stack_module_state(rnns)
    _, run = functional(rnns[0])
    found = torch.func.vmap(run, (0, None))(parameters, x)
    assert close(found, torch.stack([rnn(x)[0] for rnn in rnns]))
    apart = torch.func.vmap(lambda each: rnns[0](each)[0], 1, 1)(x)
    assert close(apart, rnns[0](x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_for_ten_sizes(kind: type[Network]):
    torch._dynamo.reset()
    rnn = double(kind, nonlinearity="modrelu", bidirectional=True, batch_first=True)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(rnn, backend=counter, dynamic=True, fullgraph=True)
    for i in range(10):
        B, T = 4 + i, 5 + 3 * i % 10
        x, hx = sample(B, T, 3), states(rnn, B)
        for a, b in zip(
            values_and_gradients(compiled, x, hx), values_and_gradients(rnn, x, hx), strict=True
        ):
            assert close(a, b, 1e-10)
    assert counter.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "strict"), [(SpectralRNN, False), (OrthogonalRNN, True)])
def test_exported_for_every_size(kind: type[Network], strict: bool, tmp_path: Path):
    rnn = double(kind, bidirectional=True, nonlinearity="modrelu")
    T, B = Dim("T", min=1), Dim("B", min=1)
    given = sample(5, 4, 3), states(rnn, 4)
    program = export(rnn, given, dynamic_shapes=({0: T, 1: B}, {1: B}), strict=strict)
    torch.export.save(program, tmp_path / "rnn.pt2")
    loaded = torch.export.load(tmp_path / "rnn.pt2").module()
    for steps, batch in ((5, 4), (1, 1), (9, 2), (2, 7)):
        x, hx = sample(steps, batch, 3), states(rnn, batch)
        for a, b in zip(loaded(x, hx), rnn(x, hx), strict=True):
            assert close(a, b)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_traced(kind: type[Network]):
    """For one number of steps, but any batch; ``to_rnn`` for any number of steps."""
    rnn = double(kind, **BIG, nonlinearity="modrelu")
    traced = torch.jit.trace(rnn, (sample(5, 2, 3),))
    x = sample(5, 4, 3)
    for a, b in zip(values_and_gradients(traced, x), values_and_gradients(rnn, x), strict=True):
        assert close(a, b, 1e-10)
    rnn = double(kind, **BIG, nonlinearity="relu")
    traced = torch.jit.trace(rnn.to_rnn(), (sample(5, 2, 3),))
    x = sample(7, 4, 3)
    for a, b in zip(traced(x), rnn(x), strict=True):
        assert close(a, b)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_onnx(kind: type[Network], tmp_path: Path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    rnn = kind(3, 6, num_layers=2, nonlinearity="relu").eval()
    sizes, x = ({1: Dim("B")},), torch.randn(5, 2, 3)
    exported = torch.onnx.export(
        rnn.to_rnn(), (x,), dynamic_shapes=sizes, dynamo=True, verbose=False
    )
    x = torch.randn(5, 4, 3)
    exported.save(tmp_path / "rnn.onnx")
    session = runtime.InferenceSession(tmp_path / "rnn.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    for a, b in zip(found, rnn(x), strict=True):
        assert close(torch.from_numpy(a), b.detach(), 1e-5)

"""``recurrence`` against the same step by step, and against ``torch.nn.RNN``."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad, gradcheck, gradgradcheck

from svdbench.nn.activations import ACTIVATIONS
from svdbench.nn.recurrence import recurrence, recurrence_reference
from svdbench.nn.recurrence_loops import packed_layout

pytestmark = pytest.mark.usefixtures("one_thread")

Arguments = dict[str, Tensor]


def arguments(
    activation: str,
    T: int = 5,
    B: int = 3,
    n: int = 6,
    h0: bool = True,
    dtype: torch.dtype = torch.float64,
) -> Arguments:
    """Half of the thresholds are negative, so that modReLU both silences and jumps."""
    given = {"inputs": torch.randn(T, B, n), "W": torch.randn(n, n) / n**0.5}
    if h0:
        given["h0"] = torch.randn(B, n)
    phi = ACTIVATIONS[activation]
    if phi.needs_bias:
        given["bias"] = torch.linspace(-0.5, 0.5, phi.bias_size(n))
    return {name: t.to(dtype).requires_grad_() for name, t in given.items()}


def close(a: Tensor, b: Tensor, c: float = 50.0) -> bool:
    """To c·eps of the largest entry: the same sums in another order, over a few steps."""
    tolerance = c * torch.finfo(a.dtype).eps * max(b.abs().max().item(), 1.0) if b.numel() else 0
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=tolerance)


def same_as_reference(given: Arguments, activation: str) -> None:
    states = recurrence(**given, activation=activation)
    expected = recurrence_reference(**given, activation=activation)
    assert close(states, expected)
    G = torch.randn_like(states)
    found, wanted = (grad(out, list(given.values()), G) for out in (states, expected))
    for name, a, b in zip(given, found, wanted, strict=True):
        assert close(a, b), name


@pytest.mark.parametrize("h0", [True, False])
@pytest.mark.parametrize(("T", "B"), [(1, 1), (1, 3), (7, 1), (9, 4)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_values_and_gradients(activation: str, T: int, B: int, h0: bool, poisoned: None):
    same_as_reference(arguments(activation, T, B, h0=h0), activation)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_first_and_second_derivatives(activation: str, packed: bool):
    """Forward mode and batches of gradients, too, as PyTorch's own tests ask for them."""
    given = arguments(activation, T=3, B=2, n=4)
    layout = None
    if packed:
        layout = packed_layout(torch.tensor([2, 2, 1]), torch.device("cpu"))
        given["inputs"] = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)

    def run(*values: Tensor) -> Tensor:
        named = dict(zip(given, values, strict=True))
        return recurrence(**named, activation=activation, layout=layout)

    values = tuple(given.values())
    batched = {"check_batched_grad": True, "check_batched_forward_grad": True}
    assert gradcheck(run, values, check_forward_ad=True, **batched)
    assert gradgradcheck(run, values, check_batched_grad=True)


@pytest.mark.parametrize("h0", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_packed_as_each_sequence_alone(activation: str, h0: bool, poisoned: None):
    """Sequences of 4, 3, 3 and 1 steps, row by row in the layout of PackedSequence."""
    lengths, given = [4, 3, 3, 1], arguments(activation, 4, 4, h0=h0)
    padded, rest = given.pop("inputs"), {k: v for k, v in given.items() if k != "h0"}
    packed = nn.utils.rnn.pack_padded_sequence(padded, torch.tensor(lengths))
    layout = packed_layout(packed.batch_sizes, padded.device)
    states = recurrence(packed.data, **given, activation=activation, layout=layout)
    alone = []
    for i, T in enumerate(lengths):
        first = {"h0": given["h0"][i : i + 1]} if h0 else {}
        u = padded[:T, i : i + 1]
        alone.append(recurrence(u, **rest, **first, activation=activation).squeeze(1))
    expected = nn.utils.rnn.pack_sequence(alone).data
    assert close(states, expected)
    assert close(states[layout.last], torch.stack([each[-1] for each in alone]))
    turned = nn.utils.rnn.pack_sequence([each.flip(0) for each in alone]).data
    assert close(states[layout.reverse], turned)
    G, values = torch.randn_like(states), [padded, *given.values()]
    for a, b in zip(grad(states, values, G), grad(expected, values, G), strict=True):
        assert close(a, b)


def test_third_derivative():
    x = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    y = recurrence(x * one, 0 * one[0], activation="tanh").sum()
    for _ in range(3):
        (y,) = grad(y, x, create_graph=True)
    t = x.detach().tanh()  # tanh''' = (6t² − 2)(1 − t²)
    assert close(y.detach(), (6 * t**2 - 2) * (1 - t**2))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_as_torch_rnn(activation: str, dtype: torch.dtype):
    rnn = torch.nn.RNN(3, 8, nonlinearity=activation, dtype=dtype)
    x = torch.randn(20, 4, 3, dtype=dtype)
    expected, _ = rnn(x)
    u = x @ rnn.weight_ih_l0.mT + rnn.bias_ih_l0 + rnn.bias_hh_l0
    states = recurrence(u, rnn.weight_hh_l0, activation=activation)
    assert close(states, expected)
    weights, G = list(rnn.parameters()), torch.randn_like(states)
    for a, b in zip(grad(states, weights, G), grad(expected, weights, G), strict=True):
        assert close(a, b, 200)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_only_what_is_asked_for(activation: str):
    for only in arguments(activation):
        given = arguments(activation)
        for name, tensor in given.items():
            tensor.requires_grad_(name == only)
        outs = [f(**given, activation=activation) for f in (recurrence, recurrence_reference)]
        G = torch.randn_like(outs[0])
        a, b = (grad(out, given[only], G)[0] for out in outs)
        assert close(a, b)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_strided_inputs_and_gradients(activation: str):
    given = arguments(activation, T=4, B=3, n=6)
    given["inputs"] = torch.randn(3, 6, 4, dtype=torch.float64).permute(2, 0, 1).requires_grad_()
    given["W"] = given["W"].detach().t().requires_grad_()
    given["h0"] = torch.randn(6, dtype=torch.float64).expand(3, 6).requires_grad_()
    same_as_reference(given, activation)
    outs = [f(**given, activation=activation).sum() for f in (recurrence, recurrence_reference)]
    for a, b in zip(*(grad(out, list(given.values())) for out in outs), strict=True):
        assert close(a, b)


@pytest.mark.parametrize(("T", "B"), [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("h0", [True, False])
def test_nothing_to_do(T: int, B: int, h0: bool):
    given = arguments("modrelu", T, B, h0=h0)
    states = recurrence(**given, activation="modrelu")
    assert states.shape == (T, B, 6)
    states.sum().backward()
    for tensor in given.values():
        assert tensor.grad is not None
        assert not tensor.grad.any()


def test_modrelu_at_zero_and_where_it_is_silent():
    z = torch.tensor([[[0.0, 0.2, -0.2, 2.0, -2.0, 0.0]]], dtype=torch.float64)
    bias = torch.tensor([0.5, -0.5, -0.5, -0.5, 0.5, -0.5], dtype=torch.float64)
    W = torch.zeros(6, 6, dtype=torch.float64)
    expected = torch.tensor([0.0, 0.0, 0.0, 1.5, -2.5, 0.0], dtype=torch.float64)
    assert torch.equal(recurrence(z, W, activation="modrelu", bias=bias)[0, 0], expected)
    given = {"inputs": z, "W": W, "bias": bias}
    same_as_reference({name: t.requires_grad_() for name, t in given.items()}, "modrelu")


def test_complex_modrelu_keeps_the_phase():
    given = arguments("complex_modrelu", T=1, n=8, h0=False)
    h = recurrence(**given, activation="complex_modrelu")
    z, h = (torch.complex(*t.detach().chunk(2, -1)) for t in (given["inputs"], h))
    modulus = (z.abs() + given["bias"].detach()).relu()
    assert torch.allclose(h, torch.polar(modulus, z.angle()))
    assert (modulus == 0).any()
    assert (modulus > 0).any()


def test_small_complex_numbers_keep_their_digits():
    """|h| − bias would lose them, so the gradient doesn't go that way."""
    z = torch.full((1, 1, 2), 1e-6, requires_grad=True)
    W, bias = torch.zeros(2, 2), torch.ones(1)
    G = torch.tensor([[[1.0, 0.0]]])
    grads = []
    for f in (recurrence, recurrence_reference):
        x = z.double() if f is recurrence_reference else z
        out = f(x, W.to(x), activation="complex_modrelu", bias=bias.to(x))
        grads.append(grad(out, z, G.to(x))[0])
    assert torch.allclose(*grads, rtol=1e-5)


def test_zeros_have_no_nan():
    given = arguments("complex_modrelu")
    given = {name: torch.zeros_like(t).requires_grad_() for name, t in given.items()}
    given["bias"] = torch.ones(3, dtype=torch.float64, requires_grad=True)
    same_as_reference(given, "complex_modrelu")
    for part in grad(recurrence(**given, activation="complex_modrelu").sum(), given.values()):
        assert part.isfinite().all()


def test_inputs_are_not_kept():
    """What memory is paid for: the states; and once more, for the gradients at the inputs."""
    given = arguments("tanh")
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda x: x):
        recurrence(**given)
    assert sum(t.numel() for t in saved if t is not None and t.ndim == 3) == 5 * 3 * 6


@pytest.mark.parametrize("activation", ["tanh", "complex_modrelu"])
def test_torch_func(activation: str):
    given = arguments(activation)

    def loss(W: Tensor, inputs: Tensor) -> Tensor:
        rest = {**given, "W": W, "inputs": inputs}
        return recurrence(**rest, activation=activation).square().sum()

    W, inputs = given["W"], given["inputs"]
    (expected,) = grad(loss(W, inputs), W)
    assert close(torch.func.grad(loss)(W, inputs), expected)
    batch = torch.stack([inputs, 2 * inputs])
    several = torch.func.vmap(torch.func.grad(loss), (None, 0))(W, batch)
    assert close(several[0], expected)


@pytest.mark.parametrize("activation", ["relu", "modrelu", "complex_modrelu"])
@pytest.mark.parametrize("h0", [True, False])
def test_compiled(activation: str, h0: bool):
    torch._dynamo.reset()
    given = arguments(activation, h0=h0)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def run(given: Arguments) -> Tensor:
        return 2 * recurrence(**given, activation=activation)

    expected = 2 * recurrence_reference(**given, activation=activation)
    assert close(run(given), expected)
    G = torch.randn_like(expected)
    values = list(given.values())
    for a, b in zip(grad(run(given), values, G), grad(expected, values, G), strict=True):
        assert close(a, b)
    with torch.no_grad():
        assert close(run(given), expected)


def test_operators_keep_the_rules():
    from svdbench.nn.recurrence import _backward, _forward

    given = arguments("complex_modrelu")
    call = (*given.values(), "complex_modrelu", True)
    torch.library.opcheck(_forward, call)
    states, kept = _forward(*call)
    torch.library.opcheck(
        _backward,
        (states.detach(), given["W"].detach(), states.detach(), kept.detach(), "complex_modrelu"),
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(activation: str, dtype: torch.dtype):
    """No worse than twice what the plain operations lose in the same dtype."""
    given = arguments(activation, T=6)
    low = {name: t.detach().to(dtype).requires_grad_() for name, t in given.items()}
    high = {name: t.detach().double().requires_grad_() for name, t in low.items()}
    G = torch.randn(6, 3, 6, dtype=dtype)

    def gradients(f, given: Arguments) -> list[Tensor]:
        out = f(**given, activation=activation)
        return [out, *grad(out, list(given.values()), G.to(out))]

    exact = gradients(recurrence_reference, high)
    ours, plain = gradients(recurrence, low), gradients(recurrence_reference, low)
    for a, b, e in zip(ours, plain, exact, strict=True):
        assert a.dtype == dtype
        eps = torch.finfo(dtype).eps * e.abs().max()
        assert (a.double() - e).abs().max() <= 2 * (b.double() - e).abs().max() + 4 * eps


def test_autocast_runs_in_the_widest_dtype():
    given = arguments("tanh", dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        states = recurrence(given["inputs"].bfloat16(), given["W"], given["h0"])
    assert states.dtype == torch.float32
    expected = recurrence(given["inputs"].bfloat16().float(), given["W"], given["h0"])
    assert torch.equal(states, expected)


def test_in_place_is_noticed():
    """The states are saved, so changing them raises an error; the gradient is never wrong."""
    given = arguments("tanh")
    recurrence(**given).clone().mul_(2).sum().backward()
    states = recurrence(**given).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        states.sum().backward()
    with torch.no_grad():
        assert recurrence(**given).mul_(2).isfinite().all()


def test_meta_tensors():
    given = {name: t.detach().to("meta") for name, t in arguments("modrelu").items()}
    assert recurrence(**given, activation="modrelu").shape == (5, 3, 6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_on_a_gpu_and_in_a_graph(activation: str):
    cpu = arguments(activation)
    given = {name: t.detach().cuda().requires_grad_() for name, t in cpu.items()}
    same_as_reference(given, activation)
    static = {name: t.detach().clone().requires_grad_() for name, t in given.items()}
    run = torch.cuda.make_graphed_callables(
        lambda *values: recurrence(**dict(zip(static, values, strict=True)), activation=activation),
        tuple(static.values()),
    )
    states, expected = run(*given.values()), recurrence(**given, activation=activation)
    assert close(states, expected)
    G = torch.randn_like(states)
    found, wanted = (grad(out, list(given.values()), G) for out in (states, expected))
    for a, b in zip(found, wanted, strict=True):
        assert close(a, b)


def test_wrong_arguments():
    given = arguments("tanh")
    wrong: list[tuple[Arguments, str, type[Exception], str]] = [
        ({"inputs": torch.zeros(3, 6).double()}, "tanh", ValueError, r"\(T, B, n\)"),
        ({"inputs": torch.zeros(5, 3, 6).long()}, "tanh", TypeError, "floating point"),
        ({"W": torch.zeros(6, 5).double()}, "tanh", ValueError, r"need W of shape \(6, 6\)"),
        ({"W": torch.zeros(6, 6)}, "tanh", TypeError, "W is torch.float32"),
        ({"W": torch.zeros(6, 6, device="meta").double()}, "tanh", ValueError, "W on meta"),
        ({"h0": torch.zeros(1, 6).double()}, "tanh", ValueError, "h0 of shape"),
        ({"bias": torch.zeros(6).double()}, "tanh", ValueError, "has no bias"),
        ({}, "modrelu", ValueError, "needs a bias"),
        ({"bias": torch.zeros(6).double()}, "complex_modrelu", ValueError, r"bias of shape \(3,\)"),
        ({}, "sigmoid", ValueError, "choose from tanh, relu"),
    ]
    for change, activation, error, message in wrong:
        with pytest.raises(error, match=message):
            recurrence(**{**given, **change}, activation=activation)
    odd = {name: t[..., :5] for name, t in given.items()}
    odd["W"] = odd["W"][:5]
    with pytest.raises(ValueError, match="even number"):
        recurrence(**odd, activation="complex_modrelu", bias=torch.zeros(2).double())

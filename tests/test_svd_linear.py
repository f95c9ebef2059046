"""``SVDLinear`` against the dense matrix it stands for, and its singular values."""

import copy
import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from graphs import check_any_number_of_rows
from torch import Tensor, nn
from torch.autograd import grad, gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from svdbench.nn import OrthogonalRNN, SpectralRNN, SpectralWeight, SVDLinear, orthogonal
from svdbench.nn.singular_values import ClippedSigma, FreeSigma, IntervalSigma
from svdbench.nn.svd_linear import build_is_cheaper

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = [(4, 4), (7, 3), (3, 7), (1, 1), (1, 5), (5, 1), (33, 33), (40, 17)]
SIGMAS = ["free", "clipped", (1.0, 0.1)]


def close(a: Tensor, b: Tensor, c: float = 20.0) -> bool:
    """c·d·eps of the largest entry, as a product of d reflectors is off by some d·eps."""
    d = max(*a.shape, 1) if a.ndim else 1
    scale = max(b.detach().abs().max().item(), 1.0) if b.numel() else 1.0
    atol = c * d * torch.finfo(a.dtype).eps * scale
    return a.shape == b.shape and torch.allclose(a, b.to(a.dtype), rtol=0, atol=atol)


def linear(in_features: int, out_features: int, **options) -> nn.Linear:
    return nn.Linear(in_features, out_features, **{"dtype": torch.float64, **options})


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("i", "o"), SIZES)
def test_from_and_to_linear(i: int, o: int, bias: bool):
    dense = linear(i, o, bias=bias)
    layer = SVDLinear.from_linear(dense)
    assert close(layer.weight, dense.weight)
    values = torch.linalg.svdvals(dense.weight)
    assert close(layer.sigma().sort(descending=True).values, values)
    back = layer.to_linear()
    assert close(back.weight, dense.weight)
    assert (back.bias is None) == (not bias)
    for shape in [(i,), (0, i), (1, i), (2, 3, i), (100, i)]:
        x = torch.randn(*shape, dtype=torch.float64)
        assert close(layer(x), dense(x)), shape


@pytest.mark.parametrize("i", [3, 8])
def test_from_a_linear_of_either_determinant_and_any_rank(i: int):
    W = torch.randn(i, i, dtype=torch.float64)
    for weight in (W, W[[1, 0, *range(2, i)]], torch.zeros_like(W), torch.eye(i), -torch.eye(i)):
        dense = linear(i, i)
        with torch.no_grad():
            dense.weight.copy_(weight)
        layer = SVDLinear.from_linear(dense)
        assert close(layer.weight, dense.weight)
        if weight.det() != 0:
            assert layer.slogdet().sign == weight.det().sign()


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(("i", "o"), [(4, 4), (5, 3), (2, 6)])
@pytest.mark.parametrize("n_reflectors", [1, 2, None])
def test_both_ways_of_the_forward_pass(i: int, o: int, sigma, n_reflectors: int | None):
    layer = SVDLinear(i, o, sigma=sigma, n_reflectors=n_reflectors, dtype=torch.float64)
    ways = set()
    for n_rows in (1, 200):
        ways.add(build_is_cheaper(n_rows, layer.n_reflectors, i, o))
        x = torch.randn(n_rows, i, dtype=torch.float64, requires_grad=True)
        inputs = [x, *layer.parameters()]
        outs = [layer(x), nn.functional.linear(x, layer.weight, layer.bias)]
        G = torch.randn_like(outs[0])
        assert close(*outs)
        for a, b in zip(*(grad(out, inputs, G) for out in outs), strict=True):
            assert close(a, b, 500)
    assert ways == {False, True} or n_reflectors == 1


def test_gradients_of_a_small_layer():
    layer = SVDLinear(4, 3, dtype=torch.float64)
    names, values = zip(*layer.named_parameters(), strict=True)
    for n_rows in (2, 40):
        x = torch.randn(n_rows, 4, dtype=torch.float64, requires_grad=True)

        def run(x: Tensor, *values: Tensor) -> Tensor:
            return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), x)

        assert gradcheck(run, (x, *values))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("d", [1, 4, 33])
def test_matrix_functions(d: int, sigma):
    layer = SVDLinear(d, d, sigma=sigma, dtype=torch.float64)
    with torch.no_grad():
        layer.singular_values.raw.add_(0.2 * torch.rand_like(layer.singular_values.raw))
        layer.U.add_(torch.randn_like(layer.U))
    W = layer.weight
    for X in (torch.randn(d), torch.randn(d, 3), torch.randn(2, d, 3)):
        X = X.double()
        expected = torch.linalg.solve(W, X) if X.ndim > 1 else torch.linalg.inv(W) @ X
        assert close(layer.inverse(X), expected, 100)
    sign, logabsdet = torch.linalg.slogdet(W)
    assert layer.slogdet().sign == sign
    # A sum of d logarithms, each off by some d·eps where W is.
    assert close(layer.slogdet().logabsdet, logabsdet, 20 * d)
    assert close(layer.logabsdet(), logabsdet, 20 * d)
    assert close(layer.spectral_norm(), torch.linalg.matrix_norm(W, 2))
    assert close(layer.condition_number(), torch.linalg.cond(W), 100)


def test_negative_singular_values_count_by_their_modulus():
    layer = SVDLinear(3, 3, dtype=torch.float64)
    with torch.no_grad():
        layer.singular_values.raw.copy_(torch.tensor([-2.0, 1.0, 0.5]))
    assert layer.spectral_norm() == 2
    assert layer.condition_number() == 4
    assert layer.slogdet().sign == torch.linalg.det(layer.weight).sign()


def test_no_inverse():
    layer = SVDLinear(3, 3)
    with torch.no_grad():
        layer.singular_values.raw[1] = 0
    assert layer.logabsdet() == -torch.inf
    assert layer.condition_number() == torch.inf
    with pytest.raises(ValueError, match="singular"):
        layer.inverse(torch.ones(3))
    tall = SVDLinear(2, 3)
    for method in (lambda: tall.inverse(torch.ones(3)), tall.logabsdet, tall.slogdet):
        with pytest.raises(ValueError, match=r"only square matrices have .* 3×2"):
            method()


@pytest.mark.parametrize(("i", "o"), SIZES)
def test_it_starts_well_conditioned_and_keeps_the_size_of_its_inputs(i: int, o: int):
    layer = SVDLinear(i, o, bias=False, dtype=torch.float64)
    W = layer.weight
    assert close(torch.linalg.svdvals(W), W.new_full((min(i, o),), (o / min(i, o)) ** 0.5))
    # For x of mean square 1 and independent entries E|Wx|²/o = |W|²/o.
    assert close(W.square().sum() / o, torch.tensor(1.0).double())


def test_random_factors_are_uniform():
    """Every entry of U Σ Vᵀ has mean 0 and mean square 1/d, at four standard errors."""
    weights = torch.stack([SVDLinear(3, 3).weight.detach() for _ in range(600)])
    assert weights.mean(0).abs().max() < 4 * (1 / 3 / 600) ** 0.5
    # The square of an entry of a random rotation is Beta(1/2, 1): variance 4/45.
    assert (weights.square().mean(0) - 1 / 3).abs().max() < 4 * (4 / 45 / 600) ** 0.5


def test_limits_hold_over_training():
    torch.manual_seed(1)
    x, y = torch.randn(64, 12), 3 * torch.randn(64, 9)
    for sigma, lo, hi in [("clipped", 0.2, 0.9), ((1.0, 0.1), 0.9, 1.1), ((0.5, 0.0), 0.5, 0.5)]:
        layer = SVDLinear(12, 9, sigma=sigma, clip=(0.2, 0.9))
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
        losses = []
        for _ in range(100):
            optimizer.zero_grad()
            losses.append((layer(x) - y).square().mean())
            losses[-1].backward()
            optimizer.step()
        assert losses[-1] < losses[0]
        eps = torch.finfo(torch.float32).eps
        assert lo - eps <= layer.sigma().min()
        assert layer.sigma().max() <= hi + eps
        values = torch.linalg.svdvals(layer.weight.double())
        assert lo - 1e-5 <= values.min()
        assert values.max() <= hi + 1e-5


def test_a_clipped_value_can_come_back():
    sigma = ClippedSigma(3, 0.0, 1.0, 0.5, dtype=torch.float64)
    with torch.no_grad():
        sigma.raw.copy_(torch.tensor([-0.1, 0.5, 1.1]))
    assert sigma().tolist() == [0.0, 0.5, 1.0]
    # Descent goes against the gradient: +1 would lower the values, −1 raise them.
    for G, expected in [(1.0, [0.0, 1.0, 1.0]), (-1.0, [-1.0, -1.0, 0.0])]:
        (found,) = grad(sigma(), sigma.raw, torch.full((3,), G, dtype=torch.float64))
        assert found.tolist() == expected


def test_interval_formula():
    sigma = IntervalSigma(5, 1.5, 0.2, torch.tensor([1.3, 1.4, 1.5, 1.6, 9.0]), dtype=torch.float64)
    found = torch.tensor([1.3, 1.4, 1.5, 1.6, 1.7], dtype=torch.float64)
    assert torch.allclose(sigma(), found, atol=1e-7)
    assert sigma.raw.isfinite().all()
    expected = 2 * 0.2 * (torch.sigmoid(sigma.raw) - 0.5) + 1.5
    assert torch.equal(sigma(), expected)
    assert IntervalSigma(4, 2.0, 0.0, 2.0)().tolist() == [2.0] * 4
    assert FreeSigma(2, -3.0)().tolist() == [-3.0] * 2


def test_from_linear_with_limits_takes_the_nearest():
    dense = linear(6, 6)
    values = torch.linalg.svdvals(dense.weight)
    clipped = SVDLinear.from_linear(dense, sigma="clipped", clip=(0.3, 0.6))
    assert close(torch.linalg.svdvals(clipped.weight), values.clamp(0.3, 0.6))
    bounded = SVDLinear.from_linear(dense, sigma=(0.5, 0.5))
    assert close(bounded.sigma(), values.clamp(0, 1))
    wide = SVDLinear.from_linear(dense, sigma=(0.0, 10.0))
    assert close(wide.weight, dense.weight, 100)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_state_dict_copy_and_moves(sigma):
    layer, other = (SVDLinear(5, 8, sigma=sigma) for _ in range(2))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    x = torch.randn(3, 5)
    assert torch.equal(other(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    double = copy.deepcopy(layer).double()
    assert close(layer(x), double(x.double()).float())
    assert {p.dtype for p in double.parameters()} == {torch.float64}
    meta = SVDLinear(5, 8, sigma=sigma, device="meta")
    assert meta(torch.empty(3, 5, device="meta")).shape == (3, 8)
    assert meta.to_empty(device="cpu").load_state_dict(layer.state_dict())
    assert torch.equal(meta(x), layer(x))


@pytest.mark.parametrize("n_rows", [2, 100])
def test_low_precision(n_rows: int):
    layer = SVDLinear(16, 12, dtype=torch.bfloat16)
    x = torch.randn(n_rows, 16, dtype=torch.bfloat16)
    y = layer(x)
    y.sum().backward()
    assert y.dtype == layer.U.grad.dtype == torch.bfloat16
    exact = copy.deepcopy(layer).double()
    # W is rounded once, as a stored weight would be; the product is as good as torch's.
    eps = torch.finfo(torch.bfloat16).eps
    assert (y - exact(x.double())).norm() <= 2 * eps * y.double().norm()
    full = SVDLinear(16, 12)
    with torch.autocast("cpu", torch.bfloat16):
        assert full(x.float()).dtype == torch.bfloat16
        assert full(x).dtype == torch.bfloat16


@pytest.mark.parametrize("n_rows", [2, 100])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_compiled(sigma, n_rows: int):
    torch._dynamo.reset()
    layer = SVDLinear(6, 5, sigma=sigma, dtype=torch.float64)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(n_rows, 6, dtype=torch.float64)
    outs, parameters = [layer(x), compiled(x)], list(layer.parameters())
    assert close(*outs)
    for a, b in zip(*(grad(out.square().sum(), parameters) for out in outs), strict=True):
        assert close(a, b, 200)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(("i", "o"), [(5, 8), (6, 6), (8, 5)])
def test_made_without_data(i: int, o: int, sigma):
    """On meta, then given the tensors of another, or memory of any content and a new start."""
    source, x = SVDLinear(i, o, sigma=sigma, clip=(0.5, 2.0)), torch.randn(3, i)
    options = {"sigma": sigma, "clip": (0.5, 2.0)}
    with torch.device("meta"):
        assigned, emptied = SVDLinear(i, o, **options), SVDLinear(i, o, **options)
    assigned.load_state_dict(source.state_dict(), assign=True)
    assert torch.equal(assigned(x), source(x))
    skipped = torch.nn.utils.skip_init(SVDLinear, i, o, **options)
    for layer in (emptied.to_empty(device="cpu"), skipped):
        with torch.no_grad():
            for tensor in layer.state_dict().values():
                tensor.fill_(torch.nan)
        layer.reset_parameters()
        assert torch.equal(layer.sigma(), source.sigma())
        start = (o / min(i, o)) ** 0.5 if isinstance(sigma, str) else sigma[0]
        assert close(torch.linalg.svdvals(layer.weight), torch.full((min(i, o),), start))
        assert layer.bias.abs().max() <= i**-0.5
        assert all(tensor.isfinite().all() for tensor in layer.state_dict().values())
        layer.load_state_dict(source.state_dict())
        assert torch.equal(layer(x), source(x))


@pytest.mark.parametrize("n_reflectors", [None, 1])
@pytest.mark.parametrize(("i", "o"), [(6, 6), (4, 7), (7, 4)])
def test_one_graph_for_any_number_of_rows(i: int, o: int, n_reflectors: int | None):
    layer = SVDLinear(i, o, n_reflectors=n_reflectors)
    check_any_number_of_rows(layer, i, lambda a, b: close(a, b, 100))


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(("i", "o"), [(4, 4), (5, 3), (3, 5)])
@pytest.mark.parametrize("n_rows", [2, 50])
def test_forward_mode_and_batched_gradients(i: int, o: int, n_rows: int, sigma):
    layer = SVDLinear(i, o, sigma=sigma, clip=(0.5, 2.0), dtype=torch.float64)
    x = torch.randn(n_rows, i, dtype=torch.float64)

    def f(U: Tensor, raw: Tensor) -> Tensor:
        values = {"U": U, "singular_values.raw": raw}
        return torch.func.functional_call(layer, values, x)

    inputs = layer.U.detach(), layer.singular_values.raw.detach()
    expected = torch.autograd.functional.jacobian(f, inputs)
    for found in (
        torch.func.jacfwd(f, (0, 1))(*inputs),
        torch.autograd.functional.jacobian(f, inputs, vectorize=True),
        torch.autograd.functional.jacobian(f, inputs, vectorize=True, strategy="forward-mode"),
    ):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
    tangents = tuple(map(torch.randn_like, inputs))

    def along(*inputs: Tensor) -> Tensor:
        return torch.func.jvp(f, inputs, tangents)[1]

    second, step = torch.func.jvp(along, inputs, tangents)[1], 1e-5
    there, back = (
        along(*(a + s * t for a, t in zip(inputs, tangents, strict=True))) for s in (step, -step)
    )
    torch.testing.assert_close(second, (there - back) / (2 * step), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(("i", "o", "n_reflectors"), [(6, 6, None), (4, 6, 1), (6, 4, 1)])
def test_onnx(i: int, o: int, n_reflectors: int | None, sigma):
    for needed in ("onnx", "onnxscript"):
        pytest.importorskip(needed)
    runtime = pytest.importorskip("onnxruntime")
    layer = SVDLinear(i, o, n_reflectors=n_reflectors, sigma=sigma).eval()
    shapes = ({0: torch.export.Dim("rows")},)
    program = torch.onnx.export(
        layer, (torch.randn(3, i),), dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    file = io.BytesIO()
    program.save(file)
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for n_rows in (3, 8):
        x = torch.randn(n_rows, i)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), layer(x).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("i", "o"), [(64, 64), (64, 96), (96, 64)])
def test_rows_are_not_copied(i: int, o: int):
    """The reflectors take the columns of x.t(), and return those of y.t(), as they lie."""
    layer = SVDLinear(i, o, n_reflectors=4)
    x = torch.randn(32, i)
    copied = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func in (torch.ops.aten.clone.default, torch.ops.aten.copy_.default):
                copied.append(args[0].shape)
            return func(*args, **(kwargs or {}))

    with Watch(), torch.no_grad():
        y = layer(x)
    assert y.is_contiguous()
    assert close(y, layer.to_linear()(x))
    assert not [shape for shape in copied if shape.numel() >= 32 * min(i, o)]


@pytest.mark.parametrize("sigma", ["free", "clipped", (1.0, 0.1)])
@pytest.mark.parametrize(("i", "o"), [(6, 6), (7, 4), (4, 7)])
def test_traced_symbolically(i: int, o: int, sigma):
    layer = SVDLinear(i, o, sigma=sigma)
    model = nn.Sequential(layer, nn.ReLU())
    for module in (model, layer):
        traced = torch.fx.symbolic_trace(module)
        assert {name for name, _ in traced.named_parameters()} == {
            name for name, _ in module.named_parameters()
        }
        for n_rows in (2, 300):
            x = torch.randn(n_rows, i)
            torch.testing.assert_close(traced(x), module(x))
            ours, theirs = (
                grad(m(x).square().sum(), list(m.parameters())) for m in (module, traced)
            )
            names = [[name for name, _ in m.named_parameters()] for m in (module, traced)]
            torch.testing.assert_close(
                dict(zip(names[0], ours, strict=True)), dict(zip(names[1], theirs, strict=True))
            )


def test_repr_and_counts():
    layer = SVDLinear(5, 8, bias=False, n_reflectors=2, sigma=(1, 0.1))
    shown = repr(layer)
    assert "in_features=5, out_features=8, bias=False, n_reflectors=2" in shown
    assert "center=1, radius=0.1" in shown
    assert sum(p.numel() for p in layer.parameters()) == 2 * (5 + 8) + 5
    assert "lo=0.0, hi=1.0" in repr(SVDLinear(2, 2, sigma="clipped"))


def test_wrong_arguments():
    wrong: list[tuple[dict, str]] = [
        ({"sigma": (1.0, -0.1)}, "radius .* must be 0 or more, not -0.1"),
        ({"sigma": "clipped", "clip": (1.0, 0.5)}, r"clipped to \[1.0, 0.5\]: give lo ≤ hi"),
        ({"sigma": "fixed"}, "must be 'free', 'clipped' or a pair"),
        ({"sigma": (1.0, 2.0, 3.0)}, "must be 'free', 'clipped' or a pair"),
        ({"n_reflectors": 4}, "from 1 to 3 for a layer of 5×3"),
        ({"n_reflectors": 0}, "from 1 to 3"),
        ({"n_reflectors": 1.5}, "whole number"),
        ({"dtype": torch.complex64}, "real floating-point numbers, not torch.complex64"),
        ({"in_features": 0}, "sizes must be 1 or more"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            SVDLinear(**{"in_features": 3, "out_features": 5, **options})
    with pytest.raises(ValueError, match=r"x must be \(\.\.\., 3\), not \(2, 4\)"):
        SVDLinear(3, 5)(torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SVDLinear(2.0, 3), "in_features is 2.0: give a whole number"),
        (lambda: SVDLinear(2, True), "out_features is True: give a whole number"),
        (lambda: SpectralRNN("4", 8), "input_size is '4': give a whole number"),
        (lambda: OrthogonalRNN(4, 8.0), "hidden_size is 8.0: give a whole number"),
        (lambda: SpectralWeight(2.5, 1, 1), "n is 2.5: give a whole number"),
    ],
)
def test_sizes_are_whole_numbers(make: Callable[[], nn.Module], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        make()


def test_sizes_may_be_numpys() -> None:
    three, four = np.int64(3), np.int32(4)
    assert SVDLinear(four, three, n_reflectors=three)(torch.ones(2, 4)).shape == (2, 3)
    assert SpectralRNN(four, three)(torch.ones(5, 2, 4))[0].shape == (5, 2, 3)
    assert SpectralWeight(four, three, three)().shape == (4, 4)
    assert orthogonal(nn.Linear(4, 4), n_reflectors=three).weight.shape == (4, 4)

"""``SpectralRNN``, ``OrthogonalRNN`` and their weights: formulas, promises, torch's manners."""

import copy
import io
import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad, gradcheck

from svdbench.kernels import apply_reflectors_reference
from svdbench.nn import OrthogonalRNN, OrthogonalWeight, SpectralRNN, SpectralWeight
from svdbench.nn.recurrent_stack import RecurrentLayer
from svdbench.nn.spectral_weight import STARTS, rotations, start

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS = [SpectralRNN, OrthogonalRNN]
COUNTS = [(6, 1, 1), (6, 2, 3), (6, 3, 3), (6, 6, 1), (6, 2, 6), (6, 6, 6), (7, 3, 4), (7, 4, 4)]


def close(a: Tensor, b: Tensor, c: float = 20.0) -> bool:
    """c·n·eps of the largest entry, as a product of n reflectors is off by some n·eps."""
    atol = c * a.shape[-1] * torch.finfo(a.dtype).eps * max(b.detach().abs().max().item(), 1.0)
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=atol)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scatter(weight: nn.Module) -> nn.Module:
    """Any parameters, not those it starts at."""
    with torch.no_grad():
        for parameter in weight.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return weight


def reflector(u: Tensor, n: int) -> Tensor:
    """H_k(u): I − 2uuᵀ/‖u‖² on the last k coordinates."""
    H, k = torch.eye(n, dtype=u.dtype), len(u)
    H[n - k :, n - k :] -= 2 * u.outer(u) / u.dot(u)
    return H


def product(packed: Tensor, n: int, m: int) -> Tensor:
    """H_n(u_n) H_{n−1}(u_{n−1}) ⋯, with u_n, u_{n−1}, … one after the other in ``packed``."""
    W = torch.eye(n, dtype=packed.dtype)
    for u in packed.split(list(range(n, n - m, -1))):
        W = W @ reflector(u, n)
    return W


# --- the weights -------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m1", "m2"), [(1, 1, 1), *COUNTS])
def test_spectral_formula(n: int, m1: int, m2: int):
    weight = scatter(SpectralWeight(n, m1, m2, sigma=1.5, radius=0.25, dtype=torch.float64))
    sigma = 2 * 0.25 * (torch.sigmoid(weight.singular_values.raw) - 0.5) + 1.5
    W = product(weight.U.free, n, m1) @ sigma.diag() @ product(weight.V.free, n, m2).mT
    assert torch.equal(weight.sigma(), sigma)
    assert close(weight(), W)
    assert close(torch.linalg.svdvals(weight()), sigma.sort(descending=True).values)
    assert weight.n_free == (m1 + m2 + 1) * n - (m1**2 + m2**2 - m1 - m2) // 2


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 1), (5, 3), (5, 5)])
def test_orthogonal_formula(n: int, m: int):
    weight = scatter(OrthogonalWeight(n, m, dtype=torch.float64))
    assert close(weight(), product(weight.U.free, n, m))
    assert torch.equal(weight.sigma(), torch.ones(n, dtype=torch.float64))
    assert weight.n_free == m * n - m * (m - 1) // 2


@pytest.mark.parametrize(("n", "m1", "m2"), [(3, 3, 3), (4, 2, 2), (5, 1, 2)])
def test_gradients_of_the_weights(n: int, m1: int, m2: int):
    for weight in (
        SpectralWeight(n, m1, m2, radius=0.5, dtype=torch.float64),
        OrthogonalWeight(n, m1, dtype=torch.float64),
    ):
        names, values = zip(*scatter(weight).named_parameters(), strict=True)

        def run(*values: Tensor) -> Tensor:
            return torch.func.functional_call(weight, dict(zip(names, values, strict=True)), ())

        assert gradcheck(run, values, check_forward_ad=True, check_batched_grad=True)


@pytest.mark.parametrize("init", STARTS)
@pytest.mark.parametrize(("n", "m1", "m2"), COUNTS)
def test_where_it_starts(init: str, n: int, m1: int, m2: int):
    Q = start(init, n, seeded())
    options = {"init": init, "generator": seeded(), "dtype": torch.float64}
    W = SpectralWeight(n, m1, m2, sigma=2.0, **options)().detach() / 2
    assert close(W.mT @ W, torch.eye(n, dtype=torch.float64))
    determinant = round(torch.linalg.det(Q).item())
    if m1 == n or m2 == n or (m1 + m2 >= n and determinant == (-1) ** (m1 + m2)):
        assert close(W, Q)
    elif init == "identity":  # a reflector in U and the same in V make nothing
        assert (W - Q).count_nonzero() <= (m1 + m2) % 2
    elif m1 + m2 >= n:  # with one column the other way round
        assert torch.linalg.matrix_rank(W - Q, tol=1e-9) <= 1
    elif init == "random":
        assert close(W[:, :m1], Q[:, :m1])
    else:  # as many rotations as there are pairs of reflectors
        k = (m1 + m2) // 2 * 2
        assert close(W[:k, :k], Q[:k, :k])
        assert (W - torch.eye(n))[k + 2 :, k + 2 :].abs().sum() < 1e-12


@pytest.mark.parametrize("init", STARTS)
@pytest.mark.parametrize(("n", "m"), [(6, 2), (6, 4), (6, 6), (7, 7)])
def test_where_the_orthogonal_one_starts(init: str, n: int, m: int):
    Q = start(init, n, seeded())
    options = {"init": init, "generator": seeded(), "dtype": torch.float64}
    W = OrthogonalWeight(n, m, **options)().detach()
    assert close(W[:, : m if m == n else m - 1], Q[:, : m if m == n else m - 1])
    assert close(W.mT @ W, torch.eye(n, dtype=torch.float64))


def test_starts_are_what_they_say():
    n = 9
    assert torch.equal(start("identity", n), torch.eye(n, dtype=torch.float64))
    for init, low, high in [("henaff", -math.pi, math.pi), ("cayley", 0, math.pi / 2)]:
        Q = start(init, n, seeded())
        pairs = [Q[i : i + 2, i : i + 2] for i in range(0, n - 1, 2)]
        angles = torch.stack([torch.atan2(P[1, 0], P[0, 0]) for P in pairs])
        assert torch.allclose(rotations(angles, n), Q)
        assert low <= angles.min()
        assert angles.max() <= high
        many = torch.cat([start(init, 2, seeded(i))[1:, :1] for i in range(200)]).asin()
        assert many.max() > 0.9 * math.pi / 2
        assert (many.min() < 0) == (low < 0)
    angle = torch.tensor([0.3], dtype=torch.float64)
    A = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    A = A * ((1 - angle.cos()) / (1 + angle.cos())).sqrt()  # Helfrich et al., §4.2
    eye = torch.eye(2, dtype=torch.float64)
    assert close(rotations(angle, 2), torch.linalg.solve(eye + A, eye - A))
    Q = start("random", 40)
    assert close(Q.mT @ Q, torch.eye(40, dtype=torch.float64))


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_all_reflectors_reach_every_matrix(n: int):
    """Zhang et al., Theorem 1, of either determinant."""
    A = torch.randn(n, n, dtype=torch.float64)
    eye = torch.eye(n, dtype=torch.float64)
    for W in (A, -A, A.mT.flip(0), eye, -eye, torch.zeros_like(A)):
        weight = SpectralWeight(n, n, n, sigma=10, radius=10, init=W, dtype=torch.float64)
        assert close(weight(), W, 200)
    with pytest.raises(ValueError, match="widen the interval"):
        SpectralWeight(n, n, n, sigma=1, radius=0.1, init=3 * eye)


@pytest.mark.parametrize(("m1", "m2"), [(6, 6), (4, 5), (3, 3)])
@pytest.mark.parametrize("init", STARTS)
def test_every_direction_is_open_at_the_start(init: str, m1: int, m2: int):
    """The derivative of W reaches all that moves orthogonal matrices and singular values.

    Two reflectors that cancel, as a QR with R = I has them where a column of Q is one of I,
    would leave some directions out.
    """
    n = 6
    weight = SpectralWeight(n, m1, m2, init=init, generator=seeded(1), dtype=torch.float64)
    names, values = zip(*weight.named_parameters(), strict=True)

    def run(*values: Tensor) -> Tensor:
        return torch.func.functional_call(weight, dict(zip(names, values, strict=True)), ())

    parts = torch.autograd.functional.jacobian(run, values)
    J = torch.cat([part.reshape(n * n, -1) for part in parts], 1)
    rank, everything = torch.linalg.matrix_rank(J, rtol=1e-9), n * (n - 1) // 2 + n
    if init == "identity" and m1 + m2 == n:  # U = V leave the lower planes alone
        assert rank == everything - m1 * (m1 - 1) // 2
    else:
        assert rank == everything


def train(weights: list[nn.Module], steps: int = 100, **options) -> None:
    """Towards something out of reach, hard."""
    parameters = [p for weight in weights for p in weight.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=0.05, weight_decay=0.1, **options)
    targets = [torch.randn(weight.n, weight.n) for weight in weights]
    for _ in range(steps):
        optimizer.zero_grad()
        for weight, target in zip(weights, targets, strict=True):
            (weight() - target).square().sum().backward()
        optimizer.step()


def test_promises_hold_over_training():
    spectral = [SpectralWeight(n, m1, m2, radius=0.1) for n, m1, m2 in COUNTS]
    orthogonal = [OrthogonalWeight(n, m) for n, m, _ in COUNTS]
    before = [copy.deepcopy(w)().detach() for w in spectral + orthogonal]
    train([*spectral, *orthogonal])
    for weight, W0 in zip(spectral + orthogonal, before, strict=True):
        W = weight().detach()
        assert torch.dist(W, W0) > 0.1
        values = torch.linalg.svdvals(W.double())
        radius = 0.1 if isinstance(weight, SpectralWeight) else 0.0
        assert values.min() >= 1 - radius - 1e-5
        assert values.max() <= 1 + radius + 1e-5
        assert (weight.sigma() - 1).abs().max() <= radius + 1e-7
        rows = weight.U()
        assert torch.equal(rows, rows.triu())
        if radius == 0:
            assert torch.linalg.matrix_norm(W.mT @ W - torch.eye(weight.n)) < 1e-5


def test_weights_load_copy_and_move():
    weight, other = (SpectralWeight(6, 4, 3, init="random") for _ in range(2))
    other.load_state_dict(weight.state_dict())
    assert torch.equal(other(), weight())
    assert set(weight.state_dict()) == {"U.free", "V.free", "singular_values.raw"}
    double = copy.deepcopy(weight).double()
    assert double().dtype == torch.float64
    assert close(double().float(), weight())
    half = copy.deepcopy(weight).bfloat16()
    assert half().dtype == torch.bfloat16
    assert SpectralWeight(6, 4, 3, device="meta")().shape == (6, 6)


def test_rows_are_reflectors_of_the_kernel():
    weight = scatter(OrthogonalWeight(5, 3, dtype=torch.float64))
    eye = torch.eye(5, dtype=torch.float64)
    assert close(weight(), apply_reflectors_reference(weight.U(), eye))


# --- the networks ------------------------------------------------------------------------


@pytest.mark.parametrize("nonlinearity", ["modrelu", "identity", "complex_modrelu"])
def test_other_nonlinearities(nonlinearity: str):
    rnn = SpectralRNN(3, 6, nonlinearity=nonlinearity, dtype=torch.float64)
    layer = scatter(rnn).layers[0]
    x = torch.randn(4, 2, 3, dtype=torch.float64)
    h, W = torch.zeros(2, 6, dtype=torch.float64), layer.weight()
    for u, state in zip(layer.input(x), rnn(x)[0], strict=True):
        z = h @ W.mT + u
        if nonlinearity == "modrelu":
            z = z.sign() * (z.abs() + layer.modrelu_bias).relu()
        elif nonlinearity == "complex_modrelu":
            c = torch.complex(*z.chunk(2, -1))
            c = torch.polar((c.abs() + layer.modrelu_bias).relu(), c.angle())
            z = torch.cat([c.real, c.imag], -1)
        h = z
        assert close(state, h, 100)


@pytest.mark.parametrize(("n", "m1", "m2"), COUNTS)
def test_parameter_count(n: int, m1: int, m2: int):
    """Shcherbakov et al. 2019, with a readout of n_y outputs without bias."""
    n_i, n_y = 3, 2
    model = nn.ModuleList([SpectralRNN(n_i, n, m1=m1, m2=m2), nn.Linear(n, n_y, bias=False)])
    formula = (n_y + n_i + m1 + m2 + 2) * n - (m1**2 + m2**2 - m1 - m2) // 2
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == formula


@pytest.mark.parametrize("kind", KINDS)
def test_networks_train_save_and_load(kind):
    options = {"num_layers": 2, "nonlinearity": "modrelu", "bidirectional": True}
    rnn, other = (kind(2, 8, **options) for _ in range(2))
    x, y = torch.randn(10, 16, 2), torch.randn(10, 16, 16)
    optimizer = torch.optim.Adam(rnn.parameters(), lr=0.01)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        losses.append((rnn(x)[0] - y).square().mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    for layer in rnn.layers:
        values = torch.linalg.svdvals(layer.weight().double())
        assert (values - 1).abs().max() <= (0.01 if kind is SpectralRNN else 0) + 1e-5
    file = io.BytesIO()
    torch.save(rnn.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(x)[0], rnn(x)[0])
    assert torch.equal(copy.deepcopy(rnn)(x)[0], rnn(x)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_devices_and_dtypes(kind):
    assert kind(2, 4, device="meta")(torch.empty(5, 3, 2, device="meta"))[0].shape == (5, 3, 4)
    low = kind(2, 4, dtype=torch.bfloat16)
    output, last = low(torch.randn(5, 3, 2, dtype=torch.bfloat16))
    assert output.dtype == last.dtype == torch.bfloat16
    rnn, x = kind(2, 4), torch.randn(5, 3, 2)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = rnn(x)
    assert torch.dist(output, rnn(x)[0]) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_compiled(kind):
    torch._dynamo.reset()
    rnn = kind(2, 4, nonlinearity="modrelu", dtype=torch.float64)
    compiled = torch.compile(rnn, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, 3, 2, dtype=torch.float64)
    outs, parameters = [rnn(x)[0], compiled(x)[0]], list(rnn.parameters())
    assert close(*outs)
    for a, b in zip(*(grad(out.square().sum(), parameters) for out in outs), strict=True):
        assert close(a, b, 100)


def test_shown():
    assert repr(SpectralRNN(3, 8, m1=2, m2=5, nonlinearity="relu", batch_first=True)).split("\n")[
        :4
    ] == [
        "SpectralRNN(",
        "  3, 8, nonlinearity='relu', batch_first=True",
        "  (layers): ModuleList(",
        "    (0): RecurrentLayer(",
    ]
    assert "n=8, m1=2, m2=5" in repr(SpectralRNN(3, 8, m1=2, m2=5))
    assert "n=8, m=4" in repr(OrthogonalRNN(3, 8, n_reflectors=4))
    assert isinstance(OrthogonalRNN(3, 8).layers[0], RecurrentLayer)


def test_wrong_arguments():
    wrong: list[tuple[dict, str]] = [
        ({"m1": 0}, "m1, a number of reflectors, must be from 1 to n = 4, not 0"),
        ({"m2": 5}, "m2, a number of reflectors, must be from 1 to n = 4, not 5"),
        ({"radius": -1}, "must be 0 or more, not -1"),
        ({"init": "glorot"}, "unknown init 'glorot': choose from henaff, cayley"),
        ({"nonlinearity": "elu"}, "unknown nonlinearity 'elu': choose from tanh, relu"),
        ({"dropout": 1.5}, "probability"),
        ({"num_layers": 0}, "must be 1 or more, not 3, 4 and 0"),
        ({"hidden_size": 5, "nonlinearity": "complex_modrelu"}, "even hidden_size, not 5"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            SpectralRNN(**{"input_size": 3, "hidden_size": 4, **options})
    with pytest.raises(ValueError, match="m, a number of reflectors"):
        OrthogonalRNN(3, 4, n_reflectors=5)
    with pytest.raises(ValueError, match=r"needs m1 = m2 = 4 and a matrix of 4×4"):
        SpectralWeight(4, 4, 3, init=torch.eye(4))
    rnn = SpectralRNN(3, 4)
    calls: list[tuple[tuple, str]] = [
        ((torch.zeros(5, 2, 4),), r"input must be \(T, B, 3\) or \(T, 3\), not \(5, 2, 4\)"),
        ((torch.zeros(3),), "input must be"),
        ((torch.zeros(0, 2, 3),), "no time steps"),
        ((torch.zeros(5, 2, 3), torch.zeros(2, 4)), r"hx must be .* = \(1, 2, 4\), not \(2, 4\)"),
    ]
    for given, message in calls:
        with pytest.raises(ValueError, match=message):
            rnn(*given)

"""What every model in ``conf/model`` must do; adding a YAML adds it to these tests."""

import math
from importlib.resources import files
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from torch import Tensor, nn
from torch.func import functional_call

from svdbench.members import MODELS
from svdbench.models.base import SequenceModel
from svdbench.models.contract import BATCH, STEPS, sample, train
from svdbench.models.manifold import (
    cayley_of_rotation,
    cayley_step,
    exp_skew,
    log_of_rotation,
    rotation,
    skew,
    triangle_of,
)
from svdbench.models.recurrent import RNN, Recurrent, distance_to_isometry
from svdbench.nn.recurrence import recurrence_reference
from svdbench.nn.spectral_weight import STARTS

NAMES = MODELS.names()
N_IN, N, N_OUT = 3, 24, 4
T, B = STEPS, BATCH

# Ways to build a model that its defaults don't show.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in NAMES),
    *((name, {"hidden_size": 1}) for name in NAMES),
    *((name, {"hidden_size": 5, "learn_h0": True}) for name in ("rnn", "exprnn", "spectral_rnn")),
    *((name, {"learn_h0": False}) for name in ("urnn", "fc_urnn", "factorized_rnn")),
    *(("rnn", {"activation": phi}) for phi in ("relu", "identity", "modrelu")),
    *((name, {"init": i}) for name in ("rnn", "scornn", "exprnn") for i in STARTS),
    ("exprnn", {"dynamic": True, "rebase_every": 3}),
    ("scornn", {"rho": 0}),
    ("spectral_rnn", {"m1": 24, "m2": 3, "readout_bias": True}),
    ("spectral_rnn", {"radius": 0.0}),
    ("orthogonal_rnn", {"m": 5}),
    ("factorized_rnn", {"rms": True, "margin": 0.5}),
    ("fc_urnn", {"rms": False}),
    ("lstm", {"readout_bias": False}),
    *((name, {"layers": 1, "memory": 50.0}) for name in ("mingru", "minlstm")),
    ("spectral_blocks", {"layers": 1, "activation": "relu", "m1": 24, "m2": 3}),
    ("orthogonal_blocks", {"activation": "tanh", "m": 5}),
    ("asrnn", {"scale": 0.1, "learn_h0": True}),
    ("deltanet", {"layers": 1, "heads": 2, "key_size": 3}),
    ("deltaproduct", {"writes": False, "reflectors": 3, "heads": 3}),
    ("deltaproduct", {"beta": 1, "key_size": 5}),
    ("lem", {"dt": 0.5}),
    ("lru", {"layers": 3, "state_units": 5, "r_min": 0.9, "r_max": 0.999, "max_phase": 0.3}),
    ("reflector_rnn", {"hidden_size": 5, "reflectors": 2, "copies": 3, "heads": 2}),
]
ORTHOGONAL = ["orthogonal_rnn", "scornn", "exprnn", "urnn", "fc_urnn"]


def build(name: str, **options: Any) -> SequenceModel:
    return MODELS.load(name, input_size=N_IN, output_size=N_OUT, **{"hidden_size": N, **options})


@pytest.mark.parametrize("name", NAMES)
def test_is_described(name: str) -> None:
    with initialize_config_module("svdbench.conf", version_base=None):
        config = compose(overrides=[f"+model={name}"]).model
    model = build(name)
    assert sorted(config) == sorted(MODELS.options_of(name))
    assert type(model).name == name
    assert model.kind
    assert model.source
    text = (files("svdbench.conf") / "model" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_the_yaml_repeats_the_defaults_of_the_class(name: str) -> None:
    torch.manual_seed(1)
    ours = build(name)
    torch.manual_seed(1)
    theirs = type(ours)(input_size=N_IN, hidden_size=N, output_size=N_OUT)
    torch.testing.assert_close(theirs.state_dict(), ours.state_dict(), rtol=0, atol=0)
    x = sample(ours)
    assert torch.equal(theirs(x), ours(x))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_shapes_gradients_and_parameters(name: str, options: dict[str, Any]) -> None:
    model = build(name, **options)
    s = model.state_size
    x = sample(model)
    outputs = model(x)
    assert outputs.shape == (T, B, N_OUT)
    assert model.states(x).shape == (T, B, s)
    torch.testing.assert_close(model.last(x), outputs[-1])  # a product of other sizes rounds anew
    outputs.square().mean().backward()
    groups = model.parameter_groups()
    grouped = groups["orthogonal"] + groups["other"]
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in grouped} == {id(p) for p in trained}
    assert len(grouped) == len(trained)
    for what, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, what
            assert parameter.grad.isfinite().all(), what
    assert model.n_params == model.expected_parameters()


@pytest.mark.parametrize("name", NAMES)
def test_goes_on_from_a_given_state(name: str) -> None:
    model = build(name, **({"learn_h0": False} if "learn_h0" in MODELS.options_of(name) else {}))
    x = sample(model)
    first = x.new_zeros(B, model.state_size)
    if name == "reflector_rnn":  # which learns it at any rate
        first = model.h0.flatten().expand(B, -1)
    states = model.states(x, first)
    torch.testing.assert_close(states, model.states(x))
    if model.kind != "gated":  # an LSTM's cell is not part of the state
        torch.testing.assert_close(model.states(x[4:], states[3]), states[4:])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in NAMES),
        ("exprnn", {"dynamic": True, "rebase_every": 3}),
        ("factorized_rnn", {"rms": True}),
    ],
)
def test_state_dict_round_trip(name: str, options: dict[str, Any]) -> None:
    """The outputs are the same, and the model's own steps go on as they would have."""
    model, other = build(name, **options), build(name, **options)
    train(model, 2, 1e-2)
    x = sample(model)
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(model.state_dict())
    for each in (model, other):
        each.zero_grad()
        each(x).square().mean().backward()
    assert torch.equal(other(x), model(x))
    for each in (model, other):
        each.step_own(0.1)
        each.after_step()
    torch.testing.assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in NAMES), ("exprnn", {"dynamic": True})]
)
def test_starts_anew_whatever_it_was(name: str, options: dict[str, Any]) -> None:
    fresh, spoilt = build(name, **options), build(name, **options)
    train(spoilt, 2, 1e-2)
    with torch.no_grad():
        for tensor in spoilt.state_dict().values():
            tensor.fill_(math.nan if tensor.is_floating_point() else 3)
    for model in (fresh, spoilt):
        torch.manual_seed(1)
        model.reset_parameters()
    torch.testing.assert_close(spoilt.state_dict(), fresh.state_dict(), rtol=0, atol=0)
    promise = spoilt.promise()
    assert promise is None or promise <= 1e-5


def test_the_submodules_of_a_model_of_the_users_own_start_anew() -> None:
    class MyRNN(RNN):
        name, source = "mine", "test"

        def __init__(self) -> None:
            super().__init__(input_size=N_IN, hidden_size=N, output_size=N_OUT)
            self.cell = nn.Linear(N, N)

    model = MyRNN()
    before = model.cell.weight.detach().clone()
    nn.init.zeros_(model.W)
    model.reset_parameters()
    assert model.W.std() > 0
    assert not torch.equal(model.cell.weight, before)


@pytest.mark.parametrize("name", NAMES)
def test_one_by_one_and_by_the_plain_recurrence(name: str) -> None:
    model = build(name).double()
    x = sample(model)
    states = model.unrolled(x)
    torch.testing.assert_close(torch.stack(states), model.states(x))
    if isinstance(model, Recurrent) and name != "asrnn":  # whose states are in other coordinates
        W = model.recurrent_weight()
        assert W.shape == (model.state_size, model.state_size)
        inside = "modrelu" in model.activation
        u = model.input(x) if inside else model.input(x) + model.bias
        h0 = None if model.h0 is None else model.h0.expand(B, -1)
        bias = model.bias if inside else None
        plain = recurrence_reference(u, W, h0, activation=model.activation, bias=bias)
        torch.testing.assert_close(model.states(x), plain)


@pytest.mark.parametrize("name", NAMES)
def test_unrolled_states_have_the_whole_gradient(name: str) -> None:
    """∂L/∂h_t in a direction is what the loss changes by if the run goes on from there."""
    model = build(name).double()
    x = sample(model)
    states = model.unrolled(x)
    states[2].retain_grad()
    model.readout(states[-1]).square().sum().backward()
    assert states[2].grad is not None
    if name == "lstm":  # h_t is not all that the later steps start from
        assert states[2].grad.norm() > 0
        return
    direction = torch.randn_like(states[2])
    h, eps = states[2].detach(), 1e-6
    ahead, behind = (model.last(x[3:], h + e * direction).square().sum() for e in (eps, -eps))
    slope = (states[2].grad * direction).sum()
    torch.testing.assert_close((ahead - behind) / (2 * eps), slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in NAMES),
        ("exprnn", {"dynamic": True, "rebase_every": 7}),
        ("fc_urnn", {"rms": False}),
        ("factorized_rnn", {"rms": True, "margin": 0.1}),
        ("spectral_rnn", {"m1": 24, "m2": 24, "radius": 0.1, "sigma": 1.2}),
        ("spectral_rnn", {"m1": 24, "m2": 24, "radius": 0.5, "sigma": -0.1}),
    ],
)
def test_promise_is_kept_while_training(name: str, options: dict[str, Any]) -> None:
    model = build(name, **options)
    before = [p.detach().clone() for p in model.parameter_groups()["orthogonal"]]
    train(model, 100, 3e-2)
    for old, new in zip(before, model.parameter_groups()["orthogonal"], strict=True):
        assert (new - old).norm() > 1e-3
    promise = model.promise()
    assert (promise is None) == (model.kind in ("free", "gated", "linear"))
    assert promise is None or promise <= 1e-5
    sigma = model.sigma()
    assert (sigma is None) == (model.kind != "spectral" or name == "spectral_blocks")
    if sigma is not None:
        W = model.recurrent_weight()
        assert W is not None
        found = torch.linalg.svdvals(W.detach())
        torch.testing.assert_close(found, sigma.detach().abs().sort(descending=True).values)
        assert sigma.std() > 1e-4


def test_broken_promises_show() -> None:
    model = build("fc_urnn")
    model.W.data *= 1.5
    assert model.promise() == pytest.approx(1.25 * math.sqrt(N), rel=1e-4)
    model = build("factorized_rnn", margin=0.1)
    model.U.data *= 1.5
    assert model.promise() == pytest.approx(0.4, rel=1e-4)
    model.U.data[0, 0] = math.nan
    assert model.promise() == math.inf


@pytest.mark.parametrize("name", ORTHOGONAL)
@pytest.mark.parametrize("n", [1, 2, 7, 16])
def test_weight_is_orthogonal_in_double(name: str, n: int) -> None:
    model = build(name, hidden_size=n).double()
    train(model, 3, 0.1)
    promise = model.promise()
    assert promise is not None
    assert promise <= 1e-13


@pytest.mark.parametrize("name", ["urnn", "fc_urnn"])
def test_complex_weight_in_real_form(name: str) -> None:
    """Two numbers to a unit: (Re, Im) of W z is what the real form makes of (Re, Im) of z."""
    model = build(name)
    W = model.unitary_weight()
    torch.testing.assert_close(W.mH @ W, torch.eye(N, dtype=W.dtype), rtol=0, atol=1e-5)
    z = torch.randn(N, dtype=W.dtype)
    ours = model.recurrent_weight() @ torch.cat([z.real, z.imag])
    torch.testing.assert_close(ours, torch.cat([(W @ z).real, (W @ z).imag]))


def test_urnn_is_the_product_of_its_source() -> None:
    model = build("urnn", hidden_size=6).double()
    n = 6
    roots = torch.outer(torch.arange(n), torch.arange(n)).double()
    F = torch.exp(-2j * math.pi * roots / n) / math.sqrt(n)
    D = [torch.diag(torch.exp(1j * theta)) for theta in model.theta.detach()]
    R = []
    for v in torch.view_as_complex(model.reflectors.detach()):
        R.append(torch.eye(n) - 2 * torch.outer(v, v.conj()) / (v.conj() @ v))
    P = torch.eye(n, dtype=F.dtype)[model.order]
    W = D[2] @ R[1] @ F.mH @ D[1] @ P @ R[0] @ F @ D[0]
    torch.testing.assert_close(model.unitary_weight(), W)


def test_scornn_is_the_scaled_cayley_transform() -> None:
    model = build("scornn", rho=5).double()
    A, eye = skew(model.A, N), torch.eye(N, dtype=torch.float64)
    assert torch.equal(A, -A.mT)
    D = torch.diag(torch.tensor([1.0] * (N - 5) + [-1.0] * 5, dtype=torch.float64))
    W = torch.linalg.inv(eye + A) @ (eye - A) @ D
    torch.testing.assert_close(model.recurrent_weight(), W)


@pytest.mark.parametrize("options", [{}, {"dynamic": True}])
def test_exprnn_is_the_exponential(options: dict[str, Any]) -> None:
    model = build("exprnn", **options).double()
    start = model.recurrent_weight()
    with torch.no_grad():
        model.A.add_(torch.randn_like(model.A))
    base = start if options else torch.eye(N, dtype=torch.float64)
    expected = base @ torch.matrix_exp(skew(model.A, N))
    torch.testing.assert_close(model.recurrent_weight(), expected)


def test_dynamic_trivialisation_moves_its_base() -> None:
    """Every K steps A becomes zero and the base what W was, so W stays as it is."""
    model = build("exprnn", dynamic=True, rebase_every=3)
    base = model.base.clone()
    for _ in range(2):
        train(model, 1, 1e-2)
    assert torch.equal(model.base, base)
    with torch.no_grad():
        model.A.add_(0.1)
    W = model.recurrent_weight()
    model.after_step()
    assert not model.A.any()
    torch.testing.assert_close(model.recurrent_weight(), W, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_cayley_step_descends_on_the_group(dtype: torch.dtype) -> None:
    """On ½‖M − C‖², C unitary, it goes downhill at the rate that its equation says."""
    M, C = (torch.linalg.qr(torch.randn(8, 8, dtype=dtype)).Q for _ in range(2))
    G, eps = M - C, 1e-6
    after = cayley_step(M, G, eps)
    torch.testing.assert_close(after.mH @ after, torch.eye(8, dtype=dtype))
    before_loss, loss = ((X - C).abs().square().sum() / 2 for X in (M, after))
    A = G @ M.mH - M @ G.mH
    slope = -A.abs().square().sum() / 2
    torch.testing.assert_close((loss - before_loss) / eps, slope, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_rounding_does_not_add_up_over_cayley_steps(dtype: torch.dtype) -> None:
    M = torch.linalg.qr(torch.randn(8, 8, dtype=dtype)).Q
    for _ in range(500):
        M = cayley_step(M, torch.randn(8, 8, dtype=dtype), 0.03)
    assert distance_to_isometry(M) <= 8 * torch.finfo(dtype).eps


def test_own_steps_need_gradients() -> None:
    for name in ("fc_urnn", "factorized_rnn"):
        model = build(name)
        old = [p.detach().clone() for p in model.parameter_groups()["orthogonal"]]
        model.step_own(0.1)
        for parameter, value in zip(model.parameter_groups()["orthogonal"], old, strict=True):
            assert torch.equal(parameter, value)


class Weight(nn.Module):
    """A model's recurrent weight, for ``functional_call``."""

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self) -> Tensor:
        W = self.model.recurrent_weight()
        assert W is not None
        return W


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scornn", {}),
        ("exprnn", {}),
        ("exprnn", {"init": "identity"}),  # where all eigenvalues meet
        ("exprnn", {"dynamic": True}),
        ("urnn", {}),
        ("fc_urnn", {}),
        ("factorized_rnn", {"margin": 0.5}),
    ],
)
@pytest.mark.parametrize("n", [3, 6])
def test_gradient_of_the_weight(name: str, options: dict[str, Any], n: int) -> None:
    weight = Weight(build(name, hidden_size=n, **options).double())
    orthogonal = {id(p) for p in weight.model.parameter_groups()["orthogonal"]}
    names = [what for what, p in weight.named_parameters() if id(p) in orthogonal]
    values = [weight.get_parameter(what).detach().requires_grad_() for what in names]

    def of(*values: Tensor) -> Tensor:
        W: Tensor = functional_call(weight, dict(zip(names, values, strict=True)), ())
        return W

    assert torch.autograd.gradcheck(of, values)


@pytest.mark.parametrize("length", [1e-4, 1.0, 1e4])
def test_gradient_of_the_exponential_in_single_precision(length: float) -> None:
    A = skew(triangle_of(log_of_rotation(rotation(64, "henaff"))).float(), 64)
    G = torch.randn(64, 64) * length
    ours, exact = A.clone().requires_grad_(), A.double().requires_grad_()
    exp_skew(ours).backward(G)
    torch.matrix_exp(exact).backward(G.double())
    assert (ours.grad - exact.grad).norm() <= 64 * torch.finfo(torch.float32).eps * G.norm()


@pytest.mark.parametrize("init", STARTS)
@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_skew_matrices_of_a_rotation(init: str, n: int) -> None:
    W, eye = rotation(n, init), torch.eye(n, dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.det(W), torch.tensor(1.0, dtype=torch.float64))
    A, C = log_of_rotation(W), cayley_of_rotation(W)
    for S in (A, C):
        assert torch.equal(S, -S.mT)
        assert torch.equal(skew(triangle_of(S), n), S)
    torch.testing.assert_close(torch.matrix_exp(A), W)
    torch.testing.assert_close(torch.linalg.solve(eye + C, eye - C), W)


@pytest.mark.parametrize("name", ["rnn", "orthogonal_rnn", "scornn", "exprnn", "factorized_rnn"])
def test_starts_where_it_is_told_to(name: str) -> None:
    W = build(name, init="identity").recurrent_weight()
    expected = torch.eye(N)
    if name == "scornn":
        expected = torch.diag(torch.tensor([1.0] * 12 + [-1.0] * 12))
    torch.testing.assert_close(W, expected, rtol=0, atol=1e-5)


def test_starts_as_the_sources_do() -> None:
    assert torch.equal(build("irnn").recurrent_weight(), torch.eye(N))
    biases = build("lstm").rnn.bias_ih_l0 + build("lstm").rnn.bias_hh_l0
    assert torch.equal(biases[N : 2 * N], torch.ones(N))
    for options, std in (({}, math.sqrt(2 / N_IN)), ({"input_std": 0.01}, 0.01)):
        weight = build("exprnn", hidden_size=400, **options).input.weight
        assert weight.std().item() == pytest.approx(std, rel=0.1)
    assert build("urnn", hidden_size=400).h0.norm().item() == pytest.approx(1, rel=0.1)
    assert build("spectral_rnn").readout.bias is None


@pytest.mark.parametrize(
    ("name", "n", "n_params", "options"),
    [
        # n_i = 1, n_y = 10, as for sequential MNIST. Wisdom et al. give 16k and 270k for
        # the uRNNs, Lezcano-Casado and Martínez-Rubio 16k, 69k and 137k for the expRNNs.
        ("lstm", 128, 4 * 128 * 130 + 1290, {}),
        ("gru", 128, 3 * 128 * 130 + 1290, {}),
        ("rnn", 128, 128**2 + 2 * 128 + 1290, {}),
        ("urnn", 512, 16_394, {}),
        ("fc_urnn", 116, 16_366, {}),
        ("fc_urnn", 512, 274_954, {}),
        ("exprnn", 170, 16_415, {}),
        ("scornn", 170, 16_415, {}),
        ("exprnn", 360, 68_950, {}),
        ("exprnn", 512, 136_970, {}),
        ("orthogonal_rnn", 128, 16 * 128 - 120 + 12 * 128, {"m": 16}),
        ("spectral_rnn", 128, (10 + 1 + 16 + 8 + 2) * 128 - 148, {"m1": 16, "m2": 8}),
        ("spectral_rnn", 128, (10 + 1 + 128 + 128 + 2) * 128 - 128 * 127, {"m1": 128, "m2": 128}),
        ("factorized_rnn", 128, 128**2 + 3 * 128 + 1290, {}),
        # d(n_i + 1) + L(2d + P + 2d² + 2d) + 2d + n_o(d + 1), P of the mixer.
        ("mingru", 32, 64 + 2 * (64 + 2 * 32 * 33 + 64 * 33) + 64 + 330, {}),
        ("minlstm", 32, 64 + 2 * (64 + 3 * 32 * 33 + 64 * 33) + 64 + 330, {}),
        ("lru", 32, 64 + 2 * (64 + 24 + 32 * 32 + 32 + 64 * 33) + 64 + 330, {"state_units": 8}),
        ("deltanet", 32, 64 + 2 * (64 + 32 * (16 + 1 + 16 + 32) + 1 + 64 * 33) + 64 + 330, {}),
        ("lem", 128, 4 * 128 * 130 + 1290, {}),
    ],
)
def test_published_parameter_counts(
    name: str, n: int, n_params: int, options: dict[str, Any]
) -> None:
    assert (
        MODELS.load(name, input_size=1, output_size=10, hidden_size=n, **options).n_params
        == n_params
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        *((name, {"hidden_size": 0}, "hidden_size is 0: give a whole number") for name in NAMES),
        ("rnn", {"hidden_size": 2.5}, "hidden_size is 2.5: give a whole number"),
        ("rnn", {"activation": "sigmoid"}, "activation is 'sigmoid': choose from tanh"),
        ("exprnn", {"activation": "complex_modrelu"}, "choose from tanh, relu, identity, modrelu"),
        ("rnn", {"init": "glorot"}, "init is 'glorot': choose from uniform"),
        ("exprnn", {"init": "uniform"}, "'uniform': choose from henaff"),
        ("exprnn", {"input_std": -1.0}, "input_std is -1.0: give a number of at least 0"),
        ("exprnn", {"rebase_every": 0}, "rebase_every is 0: give a whole number of at least 1"),
        ("scornn", {"rho": 25}, "rho is 25: give a whole number from 0 to hidden_size = 24"),
        ("factorized_rnn", {"margin": -0.1}, "margin is -0.1: give a number from 0 to 1"),
        ("factorized_rnn", {"margin": 1.1}, "margin is 1.1: give a number from 0 to 1"),
        ("orthogonal_rnn", {"m": 25}, "must be from 1 to n = 24, not 25"),
        ("spectral_rnn", {"m1": 0}, "must be from 1 to n = 24, not 0"),
        ("spectral_rnn", {"m2": 25}, "must be from 1 to n = 24, not 25"),
        ("spectral_rnn", {"radius": -0.1}, "must be 0 or more, not -0.1"),
        ("mingru", {"layers": 0}, "layers is 0: give a whole number of at least 1"),
        ("minlstm", {"memory": 0.5}, "memory is 0.5: give a number of steps from 1, or null"),
        ("lru", {"r_min": 1.0}, "r_min is 1.0 and r_max 1.0: give 0 ≤ r_min < r_max ≤ 1"),
        ("lru", {"max_phase": 0}, "max_phase is 0: give an angle above 0"),
        ("lru", {"state_units": 0}, "state_units is 0: give a whole number of at least 1"),
        ("deltaproduct", {"heads": 5}, "heads is 5: give a divisor of hidden_size = 24"),
        ("deltaproduct", {"beta": 1.5}, "beta is 1.5: give 1 or 2"),
        ("deltanet", {"key_size": 0}, "key_size is 0: give a whole number of at least 1"),
        ("lem", {"dt": 0}, "dt is 0: give a number above 0"),
        ("cornn", {"gamma": -1.0}, "gamma is -1.0: give a number of at least 0"),
        ("spectral_blocks", {"activation": "gelu"}, "activation is 'gelu': choose from modrelu"),
        ("orthogonal_blocks", {"m": 25}, "must be from 1 to n = 24, not 25"),
        ("asrnn", {"epsilon": 0.0}, "epsilon is 0.0: give a number above 0"),
        ("asrnn", {"scale": -1.0}, "scale is -1.0: give a number of at least 0"),
        ("lstm", {"activation": "relu"}, "no option of lstm is called 'activation'"),
    ],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        build(name, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_take_hyphens_too() -> None:
    assert type(MODELS.load("spectral-rnn", input_size=N_IN, output_size=N_OUT)) is type(
        build("spectral_rnn")
    )
    with pytest.raises(ValueError, match="did you mean 'exprnn'"):
        MODELS.load("exp-rnn", input_size=N_IN, output_size=N_OUT)


def test_asrnn_is_the_recurrence_of_its_source() -> None:
    """h_t = W_f⁻¹ tanh(W_f(W h_{t−1} + M x_t + b)), computed as it is written."""
    model = build("asrnn", hidden_size=6).double()
    nn.init.normal_(model.bias)
    x, h = sample(model).double(), torch.zeros(B, 6, dtype=torch.float64)
    U = torch.matrix_exp(skew(model.C, 6))
    to = U @ torch.diag(model.s.abs() + model.epsilon)
    for step, state in zip(x, model.states(x), strict=True):
        before = h @ model.recurrent_weight().mT + model.input(step) + model.bias
        h = torch.tanh(before @ to.mT) @ torch.linalg.inv(to).mT
        torch.testing.assert_close(state, h)


def test_a_block_is_what_it_says() -> None:
    """x + GLU(GELU(mix(LN x))), the gate the second half; the readout is of LN of the last."""
    model = build("mingru", layers=1).double()
    x = sample(model).double()
    block, inside = model.blocks[0], model.encoder(x)
    value, gate = block.gate(nn.functional.gelu(block.mixer(block.norm(inside)))).chunk(2, -1)
    outputs = model.readout(model.norm(inside + value * torch.sigmoid(gate)))
    torch.testing.assert_close(model(x), outputs)


@pytest.mark.parametrize("name", ["mingru", "minlstm"])
def test_minimal_gates_are_those_of_the_source(name: str) -> None:
    mixer = build(name, memory=50.0).double().blocks[0].mixer
    u, h = torch.randn(T, B, N, dtype=torch.float64), torch.zeros(B, N, dtype=torch.float64)
    content, *gates = mixer.inputs(u).chunk(1 + mixer.gates, -1)
    i, *f = (torch.sigmoid(p) for p in gates)
    for t, state in enumerate(mixer(u)):
        z = i[t] / (i[t] + f[0][t]) if f else i[t]
        h = (1 - z) * h + z * content[t]
        torch.testing.assert_close(state, h)
    remembered = (1 / torch.sigmoid(mixer.inputs.bias[N : 2 * N]) - 1).detach()
    assert remembered.min() >= 1 - 1e-4
    assert 25 < remembered.max() <= 50 + 1e-3


def test_lru_is_the_recurrence_of_its_source() -> None:
    mixer = build("lru", layers=1, state_units=5, r_min=0.9, r_max=0.99, max_phase=1.0).double()
    mixer = mixer.blocks[0].mixer
    nu, theta = mixer.nu.exp(), mixer.theta.exp()
    eigenvalues = torch.exp(torch.complex(-nu, theta))
    torch.testing.assert_close(mixer.eigenvalues(), eigenvalues)
    assert bool(((eigenvalues.abs() >= 0.9) & (eigenvalues.abs() <= 0.99)).all())
    assert theta.max() <= 1 + 1e-6
    gain = torch.sqrt(1 - eigenvalues.abs() ** 2)
    torch.testing.assert_close(mixer.gamma.exp(), gain, rtol=1e-5, atol=0)
    into = torch.complex(mixer.B[:, 0], mixer.B[:, 1])
    u, h = torch.randn(T, B, N, dtype=torch.float64), torch.zeros(B, 5, dtype=torch.complex128)
    for step, y in zip(u, mixer(u), strict=True):
        h = eigenvalues * h + mixer.gamma.exp() * (step.to(h.dtype) @ into.mT)
        read = h.real @ mixer.C[..., 0].mT + h.imag @ mixer.C[..., 1].mT + mixer.D * step
        torch.testing.assert_close(y, read)


@pytest.mark.parametrize("writes", [True, False])
def test_deltaproduct_is_the_recurrence_of_its_source(writes: bool) -> None:
    """S ← S(I − β k kᵀ) + β v kᵀ for each key of a step, o = S q, head by head."""
    options = {"layers": 1, "heads": 2, "key_size": 3, "reflectors": 2, "writes": writes}
    mixer = build("deltaproduct", hidden_size=8, **options).double().blocks[0].mixer
    nn.init.normal_(mixer.bias)
    u = torch.randn(T, B, 8, dtype=torch.float64)
    keys, values, beta, queries = mixer.inputs(u).split(mixer.sizes, -1)
    keys = nn.functional.normalize(keys.unflatten(-1, (2, 2, 3)), dim=-1)  # heads, reflectors
    values = values.unflatten(-1, (2, 2, 4)) if writes else u.new_zeros(T, B, 2, 2, 4)
    beta = 2 * torch.sigmoid(beta + mixer.bias).unflatten(-1, (2, 2))
    queries = nn.functional.normalize(queries.unflatten(-1, (2, 3)), dim=-1)
    S = u.new_zeros(B, 2, 4, 3) if writes else mixer.first.mT.expand(B, -1, -1, -1)
    for t, (y, state) in enumerate(zip(*mixer.states(u), strict=True)):
        for j in range(2):
            k, v, b = keys[t, :, :, j], values[t, :, :, j], beta[t, :, :, j, None, None]
            S = S + b * (v - (S @ k.unsqueeze(-1)).squeeze(-1)).unsqueeze(-1) * k.unsqueeze(-2)
        torch.testing.assert_close(y, (S @ queries[t].unsqueeze(-1)).flatten(1))
        torch.testing.assert_close(state, S.mT.flatten(1))


def test_lem_is_the_recurrence_of_its_source() -> None:
    model = build("lem", hidden_size=5, dt=0.7).double()
    x = sample(model).double()
    z, y = torch.zeros(2, B, 5, dtype=torch.float64)
    for u, state in zip(model.inputs(x), model.states(x), strict=True):
        p = u[:, :15] + model.of_y(y)
        first, second = 0.7 * torch.sigmoid(p[:, :5]), 0.7 * torch.sigmoid(p[:, 5:10])
        z = (1 - first) * z + first * torch.tanh(p[:, 10:])
        y = (1 - second) * y + second * torch.tanh(u[:, 15:] + model.of_z(z))
        torch.testing.assert_close(state, torch.cat([z, y], -1))


def test_reflectors_follow_the_input() -> None:
    """h_t = H(u_1) ⋯ H(u_m) h_{t−1} on each of the vectors, one reflector after the other."""
    model = build("reflector_rnn", hidden_size=6, reflectors=3, copies=2, heads=2).double()
    x = sample(model)
    h = model.h0.expand(B, -1, -1, -1)
    U = model.directions(x).unflatten(-1, (2, 3, 6))
    for u, state in zip(U, model.states(x), strict=True):
        for v in u.unbind(2)[::-1]:
            v = v / v.norm(dim=-1, keepdim=True)
            h = h - 2 * (h @ v.unsqueeze(-1)) * v.unsqueeze(2)
        torch.testing.assert_close(state, h.flatten(1))
    trained = model.directions.weight, model.h0
    gradients = torch.autograd.grad(model.states(x).sin().sum(), trained)
    plain = torch.autograd.grad(torch.stack(model.unrolled(x)).sin().sum(), trained)
    torch.testing.assert_close(gradients, plain)

"""``orthogonal`` under everything that ``torch.nn.utils.parametrize`` documents and tests."""

import copy
import io
import warnings
from collections.abc import Iterator

import pytest
import torch
from orthonormal import DTYPES, error_of, linear, near, q_factor, tolerance
from torch import Tensor, nn
from torch.nn.utils import parametrize

from svdbench.nn import orthogonal

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(4, 4), (5, 3), (3, 5)]


# What the tests of PyTorch's own parametrisation ask for.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_starts_is_assigned_and_trains(kind: str, shape: tuple[int, int], dtype: torch.dtype):
    torch.manual_seed(0)
    if kind == "linear":
        module, x = nn.Linear(*shape, dtype=dtype), torch.randn(3, shape[0], dtype=dtype)
    else:
        module = nn.Conv2d(2, 3, shape, dtype=dtype)
        x = torch.randn(2, 2, shape[0] + 2, shape[1] + 1, dtype=dtype)
    first = module.weight.detach().clone()
    parameter = module.weight
    orthogonal(module)
    assert module.parametrizations.weight.original is parameter
    assert near(module.weight, q_factor(first))
    for _ in range(2):
        W = q_factor(torch.randn_like(first))
        module.weight = W
        assert near(module.weight, W)
        W = torch.randn_like(first)
        module.weight = W
        assert near(module.weight, q_factor(W))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        before = module.weight.detach().clone()
        module(x).norm().backward()
        assert parameter.grad is not None
        optimizer.step()
        assert error_of(module.weight) <= tolerance(module.weight)
        assert not torch.equal(module.weight, before)


@pytest.mark.parametrize("determinant", [1, -1])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_training_keeps_the_determinant(determinant: int, decay: float):
    module = linear(7, 7)
    W = q_factor(module.weight)
    if torch.linalg.det(W) * determinant < 0:
        W[:, 0].neg_()
    orthogonal(module).weight = W
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1, weight_decay=decay)
    for _ in range(60):
        optimizer.zero_grad()
        (module.weight * torch.randn(7, 7)).sum().backward()
        optimizer.step()
    assert torch.linalg.det(module.weight).sign() == determinant
    assert not near(module.weight, W)


def test_calls_of_torch_are_taken():
    torch.manual_seed(0)
    W = torch.randn(4, 4)
    for call in (
        lambda m: orthogonal(m),
        lambda m: orthogonal(m, "weight"),
        lambda m: orthogonal(m, "weight", None),
        lambda m: orthogonal(m, "weight", "householder"),
        lambda m: orthogonal(m, orthogonal_map="householder", use_trivialization=False),
        lambda m: orthogonal(m, name="weight", use_trivialization=True),
    ):
        module = nn.Linear(4, 4)
        assert call(module) is module
        module.weight = W
        assert near(module.weight, q_factor(W))
    for name in ("matrix_exp", "cayley", "foo"):
        with pytest.raises(ValueError, match=f"has to be one of .*not '{name}': leave it out"):
            orthogonal(nn.Linear(4, 4), "weight", name)
    with pytest.raises(TypeError):
        orthogonal(nn.Linear(4, 4), "weight", "householder", 3)  # type: ignore[misc]


def test_mistakes_that_torch_refuses_are_refused():
    module = nn.Linear(3, 4)
    for name, message in [("foo", "has no parameter or buffer"), ("bias", "Expected a matrix")]:
        with pytest.raises(ValueError, match=message):
            orthogonal(module, name)
    orthogonal(module)
    with pytest.raises(ValueError, match="matrices of shape"):
        module.weight = torch.randn(5, 5)
    parametrize.remove_parametrizations(module, "weight")
    assert not parametrize.is_parametrized(module)
    with pytest.raises(ValueError, match="does not have a parametrization"):
        parametrize.remove_parametrizations(module, "weight")


@pytest.mark.parametrize("leave", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_registered_and_removed(shape: tuple[int, int], leave: bool):
    module = linear(*shape)
    parameter, keys = module.weight, list(module.state_dict())
    orthogonal(module)
    assert parametrize.is_parametrized(module, "weight")
    assert not parametrize.is_parametrized(module, "bias")
    assert parametrize.type_before_parametrizations(module) is nn.Linear
    assert isinstance(module, nn.Linear)
    assert "weight" not in module._parameters
    assert [name for name, _ in module.named_parameters()] == [
        "bias",
        "parametrizations.weight.original",
    ]
    W, V = module.weight.detach().clone(), parameter.detach().clone()
    parametrize.remove_parametrizations(module, "weight", leave_parametrized=leave)
    assert type(module) is nn.Linear
    assert sorted(module.state_dict()) == sorted(keys)
    assert module.weight is parameter
    assert torch.equal(module.weight, W if leave else V)
    orthogonal(module)
    assert error_of(module.weight) <= tolerance(module.weight)


def test_several_tensors_and_modules():
    torch.manual_seed(0)
    cell = nn.RNNCell(4, 4)
    orthogonal(orthogonal(cell, "weight_ih"), "weight_hh")
    for name in ("weight_ih", "weight_hh"):
        assert error_of(getattr(cell, name)) <= tolerance(getattr(cell, name))
    parametrize.remove_parametrizations(cell, "weight_ih")
    assert parametrize.is_parametrized(cell, "weight_hh")
    assert not parametrize.is_parametrized(cell, "weight_ih")
    rnn = orthogonal(nn.LSTM(3, 4), "weight_hh_l0")
    assert error_of(rnn.weight_hh_l0) <= tolerance(rnn.weight_hh_l0)
    assert rnn(torch.randn(5, 2, 3))[0].shape == (5, 2, 4)
    model = nn.Sequential(orthogonal(nn.Linear(4, 4)), nn.Sequential(orthogonal(nn.Linear(4, 2))))
    model(torch.randn(3, 4)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    bilinear = orthogonal(nn.Bilinear(4, 3, 2))
    assert error_of(bilinear.weight) <= tolerance(bilinear.weight)
    embedding = orthogonal(nn.Embedding(10, 4))
    assert embedding(torch.tensor([1, 2])).shape == (2, 4)


def test_one_parametrisation_after_another():
    class Scale(nn.Module):
        def forward(self, W: Tensor) -> Tensor:
            return 3 * W

        def right_inverse(self, W: Tensor) -> Tensor:
            return W / 3

    module = orthogonal(linear())
    parametrize.register_parametrization(module, "weight", Scale())
    W = q_factor(torch.randn(6, 6))
    module.weight = 3 * W
    assert near(module.weight / 3, W)
    parametrize.remove_parametrizations(module, "weight")
    assert near(module.weight / 3, W)
    twice = orthogonal(orthogonal(linear()))
    assert error_of(twice.weight) <= tolerance(twice.weight)


def test_cached_is_computed_once():
    module = orthogonal(linear())
    calls = []
    module.parametrizations.weight[0].register_forward_hook(lambda *_: calls.append(1))
    with parametrize.cached():
        x = torch.randn(2, 6)
        for _ in range(4):
            x = module(x)
        x.sum().backward()
    assert len(calls) == 1
    assert module.weight is not module.weight
    assert len(calls) == 3


def test_saved_as_a_state_only():
    module = orthogonal(linear())
    with pytest.raises(RuntimeError, match="Serialization of parametrized modules"):
        torch.save(module, io.BytesIO())
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = orthogonal(linear(seed=1))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.weight, module.weight)


def test_copies_share_nothing():
    model = nn.Sequential(orthogonal(linear()), nn.ReLU())
    twin = copy.deepcopy(model)
    assert parametrize.is_parametrized(twin[0], "weight")
    before = model[0].weight.detach().clone()
    twin[0].weight = q_factor(torch.randn(6, 6))
    assert torch.equal(model[0].weight, before)
    model[0].load_state_dict(copy.deepcopy(model)[0].state_dict())
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("n", [None, 3, 1])
@pytest.mark.parametrize("shape", [(6, 6), (6, 4), (4, 6)])
@pytest.mark.parametrize("onto", ["linear", "nothing"])
def test_transferred(onto: str, shape: tuple[int, int], n: int | None):
    module = orthogonal(linear(*shape), n_reflectors=n)
    W = module.weight.detach().clone()
    others = [linear(*shape, seed=s) if onto == "linear" else nn.Module() for s in (1, 2, 3)]
    for other in others:
        with warnings.catch_warnings():  # of weights that few reflectors cannot make
            warnings.simplefilter("ignore")
            parametrize.transfer_parametrizations_and_params(module, other)
        assert torch.equal(module.weight, W)
        assert torch.equal(other.weight, W)
    # They hold the same parameter, so a weight assigned to one is that of all.
    for seed in range(4):
        W = orthogonal(linear(*shape, seed=seed), n_reflectors=n).weight.detach()
        others[0].weight = W
        assert all(near(layer.weight, W) for layer in (module, *others))


def test_transferred_by_name_and_cached_apart():
    torch.manual_seed(0)
    cell, other = nn.RNNCell(4, 4), nn.RNNCell(4, 4)
    orthogonal(orthogonal(cell, "weight_ih"), "weight_hh")
    parametrize.transfer_parametrizations_and_params(cell, other, "weight_hh")
    assert parametrize.is_parametrized(other, "weight_hh")
    assert not parametrize.is_parametrized(other, "weight_ih")
    assert torch.equal(other.weight_hh, cell.weight_hh)
    with parametrize.cached():
        assert cell.weight_hh is cell.weight_hh
        assert other.weight_hh is other.weight_hh
        assert other.weight_hh is not cell.weight_hh


@pytest.mark.parametrize("training", [True, False])
def test_in_the_mode_of_its_module(training: bool):
    module = orthogonal(linear().train(training))
    assert module.parametrizations.weight[0].training == training
    module.train(not training)
    assert module.parametrizations.weight[0].training != training


def test_registered_on_a_second_module_with_a_weight_of_its_own():
    first, second = orthogonal(linear()), linear(seed=1)
    W = [first.weight.detach().clone(), q_factor(second.weight)]
    parametrize.register_parametrization(second, "weight", first.parametrizations.weight[0])
    assert torch.equal(first.weight, W[0])
    assert near(second.weight, W[1])
    for seed in range(4):
        torch.manual_seed(seed)
        second.weight = W[1] = q_factor(torch.randn(6, 6))
        assert torch.equal(first.weight, W[0])
        assert near(second.weight, W[1])
        second.weight.sum().backward()
        assert second.parametrizations.weight.original.grad.isfinite().all()


def test_few_reflectors_never_take_another_weight_in_silence():
    module, other = orthogonal(linear(), n_reflectors=2), linear(seed=1)
    W = q_factor(torch.randn(6, 6))
    with pytest.raises(ValueError, match="cannot make"):
        module.weight = W
    with pytest.warns(UserWarning, match="2 reflectors cannot make the 6×6 weight of the module"):
        parametrize.register_parametrization(
            other, "weight", module.parametrizations.weight[0], unsafe=True
        )
    with pytest.warns(UserWarning, match="cannot make"):
        other.weight = W
    with pytest.raises(ValueError, match="infinite or NaN"):
        module.weight = W * torch.nan


def test_transferred_with_other_parametrisations():
    class Half(nn.Module):
        def forward(self, W: Tensor) -> Tensor:
            return W / 2

        def right_inverse(self, W: Tensor) -> Tensor:
            return 2 * W

    for first in (True, False):
        for seed in range(3):
            module = orthogonal(linear()) if first else linear()
            parametrize.register_parametrization(module, "weight", Half())
            module = module if first else orthogonal(module)
            W = module.weight.detach().clone()
            buffered = nn.Module()
            buffered.register_buffer("weight", torch.randn(6, 6))
            for other in (linear(seed=seed), nn.Module(), buffered):
                parametrize.transfer_parametrizations_and_params(module, other)
                assert torch.equal(module.weight, W)
                assert torch.equal(other.weight, W)


@pytest.mark.parametrize("n", [None, 3])
def test_prepared_for_quantisation(n: int | None):
    from torch.ao import quantization

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is on its way out
        model = nn.Sequential(orthogonal(linear(), n_reflectors=n), nn.ReLU(), orthogonal(linear()))
        before = [model[i].weight.detach().clone() for i in (0, 2)]
        model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
        prepared = quantization.prepare_qat(model.train())
    for layers in (model, prepared):
        assert [torch.equal(layers[i].weight, W) for i, W in zip((0, 2), before, strict=True)]
    assert hasattr(prepared[0], "weight_fake_quant")


# Tensors without values.


@pytest.mark.parametrize("n", [None, 1, 2, 3, 5])
@pytest.mark.parametrize("shape", [(5, 5), (5, 3), (3, 5), (2, 3, 5), (2, 2, 5, 3)])
def test_shapes_without_data(shape: tuple[int, ...], n: int | None):
    from torch._subclasses import FakeTensorMode

    def make(device: str) -> nn.Module:
        module = nn.Module()
        module.weight = nn.Parameter(torch.ones(shape, device=device))
        return orthogonal(module, n_reflectors=n)

    real, meta = make("cpu"), make("meta")
    with FakeTensorMode():
        fake = make("cpu")
    for module in (meta, fake):
        for (key, found), (name, expected) in zip(
            module.state_dict().items(), real.state_dict().items(), strict=True
        ):
            assert key == name
            assert found.shape == expected.shape
            assert found.is_contiguous()
            assert expected.is_contiguous()
            assert found.dtype == expected.dtype
    assert meta.weight.shape == shape
    meta.weight = torch.empty(shape, device="meta")


@pytest.mark.parametrize("n", [None, 2])
def test_loaded_without_having_had_data(n: int | None):
    source = orthogonal(linear(5, 3), n_reflectors=n)
    state = source.state_dict()
    with torch.device("meta"):
        assigned, emptied = (orthogonal(nn.Linear(3, 5), n_reflectors=n) for _ in range(2))
    assigned.load_state_dict(state, assign=True)
    emptied.to_empty(device="cpu").load_state_dict(state)
    skipped = orthogonal(nn.Linear(3, 5), n_reflectors=n)
    skipped.load_state_dict(state)
    x = torch.randn(2, 3)
    for module in (assigned, emptied, skipped):
        assert torch.equal(module.weight, source.weight)
        assert torch.equal(module(x), source(x))
        module.weight = W = source.weight.detach()
        assert near(module.weight, W)
    refilled = orthogonal(nn.Linear(3, 5, device="meta")).to_empty(device="cpu")
    refilled.weight = W = q_factor(torch.randn(5, 3))
    assert near(refilled.weight, W)


def test_memory_that_nobody_wrote_is_filled_later():
    layer = torch.nn.utils.skip_init(nn.Linear, 3, 5)
    with torch.no_grad():
        layer.weight.fill_(torch.nan)
    orthogonal(layer)
    assert layer.weight.isnan().any()
    other = linear(5, 3, seed=2)
    layer.load_state_dict(orthogonal(other).state_dict())
    assert torch.equal(layer.weight, other.weight)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_weights_of_zeros_and_of_low_rank(shape: tuple[int, int], dtype: torch.dtype):
    module = linear(*shape, dtype=dtype)
    with torch.no_grad():
        module.weight.zero_()
    orthogonal(module)
    assert near(module.weight.abs(), torch.eye(*shape, dtype=dtype).abs())
    W = torch.outer(torch.randn(shape[0], dtype=dtype), torch.randn(shape[1], dtype=dtype))
    module.weight = W
    assert error_of(module.weight) <= tolerance(module.weight)


@pytest.fixture
def swapped() -> Iterator[None]:
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.usefixtures("swapped")
@pytest.mark.parametrize("n", [None, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_where_parameters_are_swapped(shape: tuple[int, int], n: int | None):
    module, other = linear(*shape), linear(*shape, seed=1)
    parameter = module.weight
    orthogonal(module, n_reflectors=n)
    assert module.parametrizations.weight.original is parameter
    module.weight = W = orthogonal(linear(*shape, seed=2), n_reflectors=n).weight.detach()
    assert near(module.weight, W)
    parametrize.transfer_parametrizations_and_params(module, other)
    assert torch.equal(module.weight, other.weight)
    module.load_state_dict(module.state_dict())
    assert near(module.double().weight.float(), W)
    parametrize.remove_parametrizations(module, "weight")
    assert near(module.weight.float(), W)

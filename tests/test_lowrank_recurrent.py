"""The loop over time with factored recurrent weights: what it computes, and when it is chosen."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from svdbench.lowrank import LowRankRecurrent
from svdbench.lowrank.costs import multiply_adds, plain_products
from svdbench.lowrank.layers.recurrent_loops import inferred, pays
from svdbench.lowrank.layers.recurrent_training import as_trained, trained, trains

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS: dict[str, Any] = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
}
OPTIONS = [
    {},
    {"bias": False, "batch_first": True},
    {"num_layers": 2, "bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True, "bias": False},
]
FORMS = ["no state", "state", "unbatched", "packed", "packed in any order"]


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Memory that was not written is NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def low_rank(rnn: nn.RNNBase, rank: int = 3) -> LowRankRecurrent:
    """A module with all its weights as factors; ``rnn`` gets their products."""
    names = [name for name, p in rnn.named_parameters() if p.ndim == 2]
    layer = LowRankRecurrent.from_recurrent(rnn, dict.fromkeys(names, rank))
    rnn.load_state_dict(layer.to_recurrent().state_dict())
    return layer


def given(rnn: nn.RNNBase, form: str) -> tuple[Any, Any]:
    """Inputs and states of 40 steps and 17 sequences, more than a block of rows."""
    generator = torch.Generator().manual_seed(1)
    layers = rnn.num_layers * (2 if rnn.bidirectional else 1)
    batch = () if form == "unbatched" else (17,)
    x = torch.randn(40, *batch, rnn.input_size, generator=generator, dtype=torch.float64)
    if rnn.batch_first and batch:
        x = x.transpose(0, 1)
    sizes = (2, layers, *batch, rnn.hidden_size)
    h, c = torch.randn(*sizes, generator=generator, dtype=torch.float64)
    hx = None if form == "no state" else (h, c) if rnn.mode == "LSTM" else h
    if form.startswith("packed"):
        lengths = torch.tensor([40, 40, 33, 30, 30, 30, 22, 17, 9, 8, 7, 6, 5, 4, 3, 1, 1])
        if form != "packed":
            lengths = lengths[torch.randperm(17, generator=generator)]
        sorted_ = form == "packed"
        return pack_padded_sequence(x, lengths, rnn.batch_first, enforce_sorted=sorted_), hx
    return x, hx


def tensors(result: Any) -> list[Tensor]:
    """Outputs and states."""
    output, states = result
    data = output.data if isinstance(output, PackedSequence) else output
    return [data, *(states if isinstance(states, tuple) else (states,))]


class TestLoop:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("kind", KINDS)
    def test_is_that_of_torch(
        self, kind: str, options: dict[str, Any], form: str, poisoned: None
    ) -> None:
        rnn = KINDS[kind](5, 16, **options).double().eval()
        layer = low_rank(rnn)
        x, hx = given(rnn, form)
        expected, found = rnn(x, hx), inferred(rnn, layer._parts(), x, hx)
        for ours, theirs in zip(tensors(found), tensors(expected), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
        if form.startswith("packed"):
            assert all(
                a is None or torch.equal(a, b) for a, b in zip(found[0][1:], x[1:], strict=True)
            )

    def test_takes_weights_dense_and_of_any_rank(self) -> None:
        rnn = nn.LSTM(5, 16).double()
        x, hx = given(rnn, "state")
        for ranks in ({}, {"weight_hh_l0": 16}, {"weight_ih_l0": 1, "weight_hh_l0": 15}):
            layer = LowRankRecurrent.from_recurrent(rnn, ranks)
            found = inferred(rnn, layer._parts(), x, hx)
            for ours, theirs in zip(tensors(found), tensors(layer(x, hx)), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)

    def test_carries_not_a_number_along(self) -> None:
        for make in KINDS.values():
            rnn = make(3, 8).double()
            x = torch.randn(6, 2, 3, dtype=torch.float64)
            x[2, 1, 0] = torch.nan
            y = inferred(rnn, low_rank(rnn)._parts(), x)[0]
            assert y[2:, 1].isnan().all()
            assert y[:, 0].isfinite().all()


class TestChoice:
    @pytest.mark.parametrize("kind", KINDS)
    def test_of_large_networks_without_gradients(self, kind: str) -> None:
        rnn = KINDS[kind](40, 512)
        layer = low_rank(rnn, 24).eval()
        x = torch.randn(20, 4, 40)
        assert not pays(rnn, layer._parts(), x)
        with torch.no_grad():
            assert pays(rnn, layer._parts(), x)
            assert not pays(rnn, low_rank(KINDS[kind](40, 32), 4)._parts(), x)
            found = layer(x)
        for ours, theirs in zip(tensors(found), tensors(layer(x)), strict=True):
            assert theirs.requires_grad
            torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)
        frozen = layer.requires_grad_(False)
        assert pays(rnn, frozen._parts(), x)
        assert not pays(rnn, frozen._parts(), x.requires_grad_())

    @torch.no_grad()
    def test_leaves_to_torch_what_it_can_not_do(self) -> None:
        rnn = nn.LSTM(40, 512, 2, dropout=0.5)
        layer = low_rank(rnn, 24)
        parts, x = layer._parts(), torch.randn(4, 3, 40)
        h = torch.zeros(2, 3, 512)
        assert not pays(rnn.train(), parts, x)
        assert pays(rnn.eval(), parts, x)
        assert pays(rnn, parts, x, (h, h))
        assert not pays(rnn, parts, x.double())
        assert not pays(rnn, parts, x.to("meta"))
        assert not pays(rnn, parts, x[:0])
        assert not pays(rnn, parts, x[None])
        assert not pays(rnn, parts, x[..., :9])
        assert not pays(rnn, parts, x, h)
        assert not pays(rnn, parts, x, (h[:1], h[:1]))
        with torch.autocast("cpu"):
            assert not pays(rnn, parts, x)
        with pytest.raises(RuntimeError, match="-1"):
            layer(x[..., :9])
        mapped = torch.func.vmap(lambda each: each * pays(rnn, parts, each))(x[None])
        assert not mapped.any()

    @torch.no_grad()
    def test_multiplies_less(self) -> None:
        class Last(nn.Module):
            def __init__(self, rnn: nn.Module) -> None:
                super().__init__()
                self.rnn = rnn

            def forward(self, x: Tensor) -> Tensor:
                last: Tensor = self.rnn(x)[0][-1]
                return last

        rnn, x = nn.GRU(512, 512), torch.randn(10, 2, 512)
        layer = low_rank(rnn, 48)
        thin = 20 * 2 * 48 * (3 * 512 + 512)
        assert multiply_adds(Last(layer), x) == thin
        assert multiply_adds(Last(rnn), x) == 20 * 2 * 3 * 512 * 512


class TestGradients:
    @pytest.mark.parametrize("kind", KINDS)
    def test_are_those_of_the_product(self, kind: str) -> None:
        rnn = KINDS[kind](3, 4, num_layers=2, bidirectional=True).double()
        layer = low_rank(rnn, 2)
        x = torch.randn(5, 2, 3, dtype=torch.float64, requires_grad=True)
        names, values = zip(*layer.named_parameters(), strict=True)

        def output(*given: Tensor) -> tuple[Tensor, ...]:
            named = dict(zip(names, given[1:], strict=True))
            return tuple(tensors(torch.func.functional_call(layer, named, (given[0],))))

        assert torch.autograd.gradcheck(output, (x, *values), fast_mode=True)

    def test_do_not_change_what_is_computed(self) -> None:
        layer = low_rank(nn.LSTM(40, 256), 16)
        x, twin = torch.randn(30, 16, 40), deepcopy(layer)
        y = layer(x)[0]
        y.square().sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(twin(x)[0], y.detach(), rtol=0, atol=2e-6)


class TestTraining:
    """The loop through the factors of recurrent weights, with its gradients."""

    @pytest.mark.parametrize("form", FORMS[:3])
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.usefixtures("poisoned")
    def test_is_that_of_torch(self, kind: str, options: dict[str, Any], form: str) -> None:
        """Outputs, states and all gradients, those of inputs and first states too."""
        torch.manual_seed(0)
        rnn = KINDS[kind](5, 7, **options).double()
        layer = low_rank(rnn)
        x, hx = given(rnn, form)
        states = () if hx is None else (hx if isinstance(hx, tuple) else (hx,))
        inputs = [each.detach().requires_grad_() for each in (x, *states)]
        state = None if hx is None else (tuple(inputs[1:]) if kind == "LSTM" else inputs[1])
        wanted = [*inputs, *layer.parameters()]
        found, loop = [], layer._loop[0]
        for result in (
            trained(loop, layer._parts(), inputs[0], state),
            torch.func.functional_call(loop, layer.weights(), (inputs[0], state)),
        ):
            own = tensors(result)
            weighted = sum((each * each.detach().cos()).sum() for each in own)
            found.append([*own, *torch.autograd.grad(weighted, wanted)])
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs)

    @pytest.mark.parametrize("kind", KINDS)
    def test_takes_dense_weights(self, kind: str) -> None:
        torch.manual_seed(0)
        rnn = KINDS[kind](5, 7).double()
        x = torch.randn(6, 4, 5, dtype=torch.float64)
        parts = {name: (parameter,) for name, parameter in rnn.named_parameters()}
        found = []
        for output in (trained(rnn, parts, x)[0], rnn(x)[0]):
            gradients = torch.autograd.grad(output.cos().sum(), list(rnn.parameters()))
            found.append([output, *gradients])
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs)

    @pytest.mark.parametrize("kind", KINDS)
    def test_dense_weights_are_trained_by_it_where_it_is_faster(self, kind: str) -> None:
        """So that factors are compared with a dense weight in a loop as fast as theirs."""
        rnn, x = KINDS[kind](5, 64), torch.randn(6, 4, 5)
        ours = as_trained(rnn, x)[0].grad_fn.name() != rnn(x)[0].grad_fn.name()
        assert ours == (kind != "LSTM")
        with torch.no_grad():
            assert torch.equal(as_trained(rnn, x)[0], rnn(x)[0])

    @pytest.mark.parametrize("kind", ["LSTM", "GRU", "relu"])
    def test_gradients_are_those_of_differences(self, kind: str) -> None:
        torch.manual_seed(0)
        rnn = KINDS[kind](2, 3, bidirectional=True).double()
        layer = low_rank(rnn, 2)
        names, parameters = zip(*layer.named_parameters(), strict=True)

        def run(x: Tensor, *values: Tensor) -> Tensor:
            named = dict(zip(names, values, strict=True))
            parts = {
                name: tuple(named[own] for own in layer.factors.get(name, (name,)))
                for name in layer.names
            }
            return torch.cat([one.flatten() for one in tensors(trained(layer._loop[0], parts, x))])

        x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(run, (x, *parameters))

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_second_backward_pass(self, kind: str) -> None:
        layer = low_rank(KINDS[kind](5, 7).double())
        x = torch.randn(6, 4, 5, dtype=torch.float64)
        output, _ = trained(layer._loop[0], layer._parts(), x)
        several = [
            torch.autograd.grad(output.sum(), list(layer.parameters()), retain_graph=True)
            for _ in range(2)
        ]
        for first, second in zip(*several, strict=True):
            assert torch.equal(first, second)

    def test_is_chosen_where_it_is_faster(self) -> None:
        def chosen(units: int, batch: int, kind: str = "LSTM", **options: Any) -> bool:
            rnn = KINDS[kind](units, units, **options)
            layer = low_rank(rnn, 2 * units // 5)
            return trains(layer._loop[0].train(), layer._parts(), torch.randn(10, batch, units))

        assert chosen(512, 64)
        assert not chosen(64, 64)
        for kind in ("GRU", "tanh", "relu"):
            assert chosen(64, 64, kind)
        assert not chosen(512, 64, num_layers=2, dropout=0.5)
        with torch.no_grad():
            assert not chosen(512, 64)

    @pytest.mark.parametrize("kind", KINDS)
    def test_is_what_the_layer_does(self, kind: str) -> None:
        """And it has fewer multiplications than the dense module."""
        torch.manual_seed(0)
        rnn = KINDS[kind](512, 512)
        layer = low_rank(rnn, 100)
        x = torch.randn(8, 4, 512)
        products, outputs = [], []
        for module in (layer, rnn):
            with plain_products() as counter:
                outputs.append(module(x)[0])
                outputs[-1].square().sum().backward()
            products.append(counter.get_total_flops())
        assert outputs[0].grad_fn.name() != outputs[1].grad_fn.name()
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
        assert products[0] < 0.55 * products[1]

"""Networks on tensors in memory: sizes, batches, a step, and training side by side."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fake_clock import FakeClock
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

from svdbench.side_by_side.arms import Arm, Batches, same_start, side_by_side, warm_up
from svdbench.side_by_side.networks import (
    check_sizes,
    evaluate,
    linear_layers,
    loss_for,
    mlp,
    parse_net,
)

# ---------------------------------------------------------------------- networks


def test_a_net_is_written_by_its_sizes() -> None:
    assert parse_net("784-15-15-10") == [784, 15, 15, 10]


@pytest.mark.parametrize("text", ["", "784", "784-", "784-0-10", "784-x", "784--10", " 784-10"])
def test_what_is_no_net_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 784-15-15-10"):
        parse_net(text)


def test_layers_alternate_with_activations() -> None:
    kinds = [type(module) for module in mlp([7, 5, 4, 3], "tanh")]
    assert kinds == [nn.Linear, nn.Tanh, nn.Linear, nn.Tanh, nn.Linear]
    shapes = {
        name: tuple(layer.weight.shape) for name, layer in linear_layers(mlp([7, 5, 3])).items()
    }
    assert shapes == {"0": (5, 7), "2": (3, 5)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([7],), "at least two"),
        (([7, 0],), "each at least 1"),
        (([7, 5], "rely"), "did you mean 'relu'"),
    ],
)
def test_a_network_that_is_none_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mlp(*arguments)


def test_sizes_must_fit_the_data() -> None:
    check_sizes([64, 5, 10], 64, 10, "digits")
    check_sizes([2, 5, 2], 2, 2, "xor")
    check_sizes([2, 5, 1], 2, 2, "xor")
    with pytest.raises(ValueError, match=r"784 inputs, but an example of digits has 64 values"):
        check_sizes([784, 10], 64, 10, "digits")
    with pytest.raises(ValueError, match=r"1 outputs, but digits has 10 classes.*64-…-10$"):
        check_sizes([64, 1], 64, 10, "digits")
    with pytest.raises(ValueError, match="or 2-…-1"):
        check_sizes([2, 3], 2, 2, "xor")


def test_one_logit_is_the_second_of_two_classes() -> None:
    logits, labels = torch.randn(9, 1), torch.randint(2, (9,))
    both = torch.cat([torch.zeros(9, 1), logits], 1)
    torch.testing.assert_close(loss_for(1)(logits, labels), loss_for(2)(both, labels))


# ----------------------------------------------------------------------- batches


def numbered(n: int) -> tuple[Tensor, Tensor]:
    """Examples that can be told apart, labelled by their number."""
    return torch.arange(2.0 * n).reshape(n, 2), torch.arange(n)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 3000), size=st.integers(1, 700), shuffle=st.booleans())
def test_an_epoch_has_every_example_once(n: int, size: int, shuffle: bool) -> None:
    batches = Batches(*numbered(n), size, seed=3, shuffle=shuffle)
    found = list(batches.epoch(0))
    assert len(found) == len(batches)
    assert [len(y) for _, y in found] == [size] * (n // size) + [n % size] * (n % size > 0)
    labels = torch.cat([y for _, y in found])
    assert torch.equal(torch.cat([X for X, _ in found]), numbered(n)[0][labels])
    assert torch.equal(labels.sort().values if shuffle else labels, torch.arange(n))


def test_the_order_is_that_of_the_seed_and_the_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = Batches(*numbered(50), 8, seed)
        return torch.cat([y for _, y in batches.epoch(epoch)]).tolist()

    assert order(0, 1) == order(0, 1)
    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len(set(map(tuple, orders))) == 9


def test_batches_that_lie_in_order_are_views() -> None:
    X, y = numbered(10)
    found, _ = next(Batches(X, y, 4, shuffle=False).epoch(0))
    assert found.data_ptr() == X.data_ptr()


@pytest.mark.parametrize(
    ("sizes", "batch_size", "message"),
    [((0, 0), 4, "0 examples"), ((3, 2), 4, "2 labels"), ((3, 3), 0, "batch_size is 0")],
)
def test_batches_that_cannot_be_are_refused(
    sizes: tuple[int, int], batch_size: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Batches(torch.zeros(sizes[0], 2), torch.zeros(sizes[1]).long(), batch_size)


# ---------------------------------------------------------------------- training


def small_arm(name: str = "one", network: nn.Module | None = None) -> Arm:
    network = network or mlp([2, 4, 3])
    return Arm(name, network, SGD(network.parameters(), 0.1, momentum=0.5), loss_for(3))


def some() -> tuple[Tensor, Tensor]:
    return torch.randn(22, 2), torch.randint(3, (22,))


def test_an_epoch_is_plain_gradient_descent() -> None:
    X, y = some()
    arm, batches = small_arm(), Batches(X, y, 8)
    (plain,) = same_start(arm.network, 1)
    optimizer = SGD(plain.parameters(), 0.1, momentum=0.5)
    losses = []
    for x, labels in batches.epoch(0):
        optimizer.zero_grad()
        loss = F.cross_entropy(plain(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item() * len(x))
    scores = arm.train_epoch(batches.epoch(0), FakeClock())
    assert scores.loss == pytest.approx(sum(losses) / len(X))
    assert scores.steps == 3
    for own, other in zip(arm.network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own, other)


def test_what_comes_after_a_batch_is_in_the_time() -> None:
    clock = FakeClock()
    scores = small_arm().train_epoch(
        Batches(*some(), 8).epoch(0), clock, after_batch=lambda: clock.work(2.0)
    )
    assert scores.seconds == 6


def test_no_batches_is_an_error() -> None:
    with pytest.raises(ValueError, match="no batches to train on"):
        small_arm().train_epoch([], FakeClock())


def test_copies_have_nothing_in_common() -> None:
    one, other = same_start(mlp([2, 4, 3]), 2)
    for own, its in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(own, its)
        assert own.data_ptr() != its.data_ptr()


def test_arms_take_turns_on_the_same_batches() -> None:
    arms = [small_arm(str(i), network) for i, network in enumerate(same_start(mlp([2, 4, 3]), 3))]
    batches = Batches(*some(), 8)
    met: list[tuple[str, list[int]]] = []

    def train(arm: Arm, epoch: Any) -> float:
        pairs = list(epoch)
        met.append((arm.name, torch.cat([y for _, y in pairs]).tolist()))
        return arm.train_epoch(pairs, FakeClock()).loss

    done = list(side_by_side(arms, batches, 3, train))
    assert [(number, arm.name) for number, arm, _ in done] == [
        *((0, "0"), (0, "1"), (0, "2")),
        *((1, "1"), (1, "2"), (1, "0")),
        *((2, "2"), (2, "0"), (2, "1")),
    ]
    for number in range(3):
        assert len({str(labels) for _, labels in met[3 * number : 3 * number + 3]}) == 1
        assert len({loss for n, _, loss in done if n == number}) == 1


def test_warming_up_is_a_few_steps() -> None:
    arm, clock = small_arm(), FakeClock()
    before = [parameter.clone() for parameter in arm.network.parameters()]
    warm_up(arm, Batches(*some(), 8), clock, steps=2)
    assert any(
        not torch.equal(old, new) for old, new in zip(before, arm.network.parameters(), strict=True)
    )


# ------------------------------------------------------------------------ scores


def test_scores_do_not_depend_on_the_chunks() -> None:
    X, y = some()
    network = mlp([2, 4, 3])
    whole, cut = (evaluate(network, X, y, loss_for(3), chunk) for chunk in (100, 5))
    assert whole.loss == pytest.approx(cut.loss)
    assert whole.loss == pytest.approx(F.cross_entropy(network(X), y).item())
    assert whole.accuracy == cut.accuracy == (network(X).argmax(1) == y).float().mean()


def test_scores_leave_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Linear(2, 1), nn.Dropout()).train()
    X, y = some()
    scores = [evaluate(network, X, y % 2, loss_for(1)) for _ in range(2)]
    assert scores[0] == scores[1]
    assert network.training


def test_scores_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no examples to evaluate on"):
        evaluate(mlp([2, 3]), torch.zeros(0, 2), torch.zeros(0).long(), loss_for(3))

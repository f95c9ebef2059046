"""A gradient that is to be differentiated itself is the same as any other, or is refused.

Of ``torch.autograd.function.once_differentiable`` alone, ``torch.autograd.grad`` would leave out
what goes through it where another path leads to the same tensor.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from svdbench.jobs.time_fasth.methods.reflectors import _Sweep
from svdbench.kernels import apply_reflectors
from svdbench.lowrank import truncated_svd
from svdbench.lowrank.layers.recurrent_training import _Loop
from svdbench.members import MODELS
from svdbench.models.manifold import exp_skew

DOUBLE = torch.float64


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, requires_grad=True)


@pytest.mark.parametrize("transpose", [False, True])
def test_reflectors_that_are_applied_twice_are_counted_once_each(transpose: bool) -> None:
    """What the second product is of was made by the same reflectors."""
    V, X = drawn(3, 5), drawn(5, 2)

    def twice(V: Tensor, X: Tensor) -> Tensor:
        return apply_reflectors(V, torch.tanh(apply_reflectors(V, X)), transpose=transpose)

    loss = twice(V, X).square().sin().sum()
    both = [
        torch.autograd.grad(loss, (V, X), retain_graph=True, create_graph=graph)
        for graph in (False, True)
    ]
    torch.testing.assert_close(*both)
    assert torch.autograd.gradgradcheck(twice, (V, X))


def by_a_reflector_rnn(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    model = MODELS.load("reflector_rnn", input_size=4, output_size=2, hidden_size=3)
    outputs: Tensor = model.double()(x.unsqueeze(1))
    return outputs


def in_factors(mode: str, gates: int) -> Callable[[Tensor], Tensor]:
    """A recurrent network of one unit, as a function of what comes from its inputs."""
    ones = torch.ones(1, 1, dtype=DOUBLE)
    start = (ones, ones) if mode == "LSTM" else (ones,)

    def states(x: Tensor) -> Tensor:
        u = x[:, :gates].unsqueeze(1) * 1
        found: Tensor = _Loop.apply(mode, u, None, ones.repeat(gates, 1), ones, *start)[0]
        return found

    return states


ONCE: dict[str, Callable[[Tensor], Tensor]] = {
    "reflector_rnn": by_a_reflector_rnn,
    "exp_skew": lambda x: exp_skew(x - x.mT),
    "a truncated SVD": lambda x: truncated_svd(x, 2).S,
    "an LSTM in factors": in_factors("LSTM", 4),
    "a GRU in factors": in_factors("GRU", 3),
    "an RNN in factors": in_factors("RNN_TANH", 1),
    "the sequential sweep": lambda x: _Sweep.apply(x, x.detach()),
}


@pytest.mark.parametrize("name", list(ONCE))
def test_what_has_no_second_derivative_says_so(name: str) -> None:
    x = drawn(4, 4)
    value = ONCE[name](x).square().sum() + x.sin().sum()
    (found,) = torch.autograd.grad(value, x, retain_graph=True)
    assert found.isfinite().all()
    with pytest.raises(RuntimeError, match=f"{name} has first derivatives only"):
        torch.autograd.grad(value, x, create_graph=True)


# Models that refuse sequences without a step, as torch.nn.GRU does; the others give no outputs.
NEED_A_STEP = ("deltanet", "deltaproduct", "gru", "lru", "lstm", "mingru", "minlstm")
NEED_A_STEP += ("orthogonal_blocks", "spectral_blocks")


@pytest.mark.parametrize("name", MODELS.names())
def test_without_a_sequence_or_a_step(name: str) -> None:
    model = MODELS.load(name, input_size=3, output_size=2, hidden_size=8)
    model(torch.randn(4, 0, 3)).sum().backward()
    assert model.last(torch.randn(4, 0, 3)).shape == (0, 2)
    if name not in NEED_A_STEP:
        assert model(torch.randn(0, 2, 3)).shape == (0, 2, 2)
        return
    with pytest.raises((RuntimeError, ValueError), match=r"at least|larger than 0"):
        model(torch.randn(0, 2, 3))

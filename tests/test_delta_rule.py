"""``delta_rule`` in chunks: against the rule step by step, and what it refuses."""

import pytest
import torch
from torch import Tensor

from svdbench.nn.delta_rule import delta_rule

T, Z, D_K, D_V = 5, 2, 3, 2


def plain(k: Tensor, v: Tensor | None, beta: Tensor, q: Tensor, H: Tensor) -> tuple[Tensor, Tensor]:
    """Sᵀ ← Sᵀ + β k (v − S k)ᵀ, one reflector after the other."""
    outputs, states = [], []
    for t in range(len(k)):
        for j in range(k.shape[2]):
            key = k[t, :, j].unsqueeze(-1)
            rest = -(key.mT @ H) if v is None else v[t, :, j].unsqueeze(1) - key.mT @ H
            H = H + beta[t, :, j, None, None] * key @ rest
        outputs.append((q[t].unsqueeze(1) @ H).squeeze(1))
        states.append(H)
    return torch.stack(outputs), torch.stack(states)


def given(reflectors: int, writes: bool) -> list[Tensor | None]:
    k = torch.nn.functional.normalize(torch.randn(T, Z, reflectors, D_K).double(), dim=-1)
    shapes = (T, Z, reflectors, D_V), (T, Z, reflectors), (T, Z, D_K), (Z, D_K, D_V)
    v, beta, q, first = (torch.randn(*shape).double() for shape in shapes)
    tensors = [k, v if writes else None, 2 * torch.sigmoid(beta), q, first]
    return [None if t is None else t.requires_grad_() for t in tensors]


@pytest.mark.parametrize("writes", [True, False], ids=["writes", "no writes"])
@pytest.mark.parametrize(("reflectors", "chunk"), [(1, 2), (2, 2), (3, 1), (2, None), (1, 5)])
@pytest.mark.parametrize("zero", [False, True], ids=["", "a coefficient of zero"])
def test_outputs_states_and_gradients(
    writes: bool, reflectors: int, chunk: int | None, zero: bool
) -> None:
    tensors = given(reflectors, writes)
    if zero:
        with torch.no_grad():
            tensors[2][1, 0, 0] = 0
    outputs, states = delta_rule(*tensors, chunk=chunk)
    wanted, each = plain(*tensors)
    torch.testing.assert_close(outputs, wanted)
    ends = [min(T, end) - 1 for end in range(chunk or T, T + (chunk or T), chunk or T)]
    torch.testing.assert_close(states, each[ends])
    G, at_states = torch.randn_like(outputs), torch.randn_like(states)
    inputs = [t for t in tensors if t is not None]
    found = torch.autograd.grad((outputs * G).sum() + (states * at_states).sum(), inputs)
    loss = (wanted * G).sum() + (each[ends] * at_states).sum()
    torch.testing.assert_close(found, torch.autograd.grad(loss, inputs))


def test_equal_keys_and_the_largest_coefficient_keep_the_length() -> None:
    """1,000 equal reflectors are the identity, but for the rounding of the key's length."""
    k = torch.nn.functional.normalize(torch.randn(1, Z, 1, D_K), dim=-1).expand(1000, -1, -1, -1)
    first = torch.randn(Z, D_K, D_V)
    beta, q = torch.full((1000, Z, 1), 2.0), torch.randn(1000, Z, D_K)
    states = delta_rule(k, None, beta, q, first, chunk=50)[1]
    torch.testing.assert_close(states[-1], first, rtol=0, atol=2e-3)


def hostile(kind: str, tensors: list[Tensor | None]) -> list[Tensor | None]:
    """Keys or coefficients that a division, or a sum of powers, would not stand."""
    k, _, beta, *_ = tensors
    with torch.no_grad():
        if kind == "equal keys":
            k.copy_(k[:1, :, :1].expand_as(k))
            beta.fill_(2)
        elif kind == "zero keys":
            k[1:3] = 0
        else:
            beta.zero_()
    return tensors


@pytest.mark.parametrize("kind", ["equal keys", "zero keys", "zero coefficients"])
@pytest.mark.parametrize("steps", [1, 2, T])
def test_hostile_inputs(kind: str, steps: int, poisoned: None) -> None:
    tensors = hostile(kind, given(2, True))
    parts = [t if t is None or t is tensors[4] else t[:steps] for t in tensors]
    found, wanted = (delta_rule(*parts, chunk=2)[0], plain(*parts)[0])
    torch.testing.assert_close(found, wanted)
    G, inputs = torch.randn_like(wanted), [t for t in tensors if t is not None]
    both = (torch.autograd.grad(each, inputs, G) for each in (found, wanted))
    torch.testing.assert_close(*both)


@pytest.mark.usefixtures("one_thread")
def test_by_numbers_and_over_many_steps() -> None:
    tensors = given(1, True)
    assert torch.autograd.gradcheck(lambda *t: delta_rule(*t, chunk=2), tensors)
    k = torch.nn.functional.normalize(torch.randn(1000, Z, 2, D_K), dim=-1)
    v, q, first = torch.randn(1000, Z, 2, D_V), torch.randn(1000, Z, D_K), torch.zeros(Z, D_K, D_V)
    rough = [t.requires_grad_() for t in (k, v, 2 * torch.rand(1000, Z, 2), q, first)]
    exact = [t.detach().double().requires_grad_() for t in rough]
    found, wanted = delta_rule(*rough)[0], delta_rule(*exact, chunk=3)[0]
    assert (found - wanted).norm() < 1e-5 * wanted.norm()
    both = [torch.autograd.grad(o.square().mean(), t) for o, t in ((found, rough), (wanted, exact))]
    for ours, right in zip(*both, strict=True):
        assert (ours - right).norm() < 1e-4 * right.norm()


def test_some_gradients_alone() -> None:
    """Of the states without the outputs, and of what is not wanted."""
    tensors = given(2, True)
    for which in (0, 1):
        found, wanted = (f(*tensors)[which] for f in (lambda *t: delta_rule(*t, chunk=1), plain))
        inputs = [tensors[i] for i in ((0, 1, 2, 4) if which else (0, 4))]
        both = (torch.autograd.grad(each.square().sum(), inputs) for each in (found, wanted))
        torch.testing.assert_close(*both)


def test_a_second_derivative_is_refused() -> None:
    k, v, beta, q, first = given(1, True)
    outputs = delta_rule(k, v, beta, q, first)[0]
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(outputs.sum(), k, create_graph=True)


def test_what_does_not_fit_is_refused() -> None:
    k, v, beta, q, first = given(2, True)
    with pytest.raises(ValueError, match=r"need beta of shape \(5, 2, 2\), not \(5, 2, 1\)"):
        delta_rule(k, v, beta[..., :1], q, first)
    with pytest.raises(ValueError, match="need queries of shape"):
        delta_rule(k, v, beta, q[..., :2], first)
    with pytest.raises(ValueError, match="with T and r of at least 1"):
        delta_rule(*(t[:0] for t in (k, v, beta, q)), first)
    with pytest.raises(ValueError, match="with T and r of at least 1"):
        delta_rule(k[:, :, :0], v[:, :, :0], beta[:, :, :0], q, first)
    with pytest.raises(ValueError, match="chunk is 0: give a number of steps from 1"):
        delta_rule(k, v, beta, q, first, chunk=0)
    with pytest.raises(TypeError, match=r"keys are torch.float64 and values torch.float32"):
        delta_rule(k, v.float(), beta, q, first)

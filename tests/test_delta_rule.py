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

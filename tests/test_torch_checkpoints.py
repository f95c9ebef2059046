"""Checkpoints that ``orthogonal`` loads: its own of the first version, and PyTorch's."""

import copy

import pytest
import torch
from orthonormal import linear, near, q_factor
from torch import nn
from torch.nn.utils import parametrizations

from svdbench.kernels import apply_reflectors_reference
from svdbench.nn import orthogonal

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = [(4, 4), (5, 3), (3, 5)]


def test_checkpoints_of_the_first_version_load():
    """Reflectors of any length and signs of ±1, under the same two keys."""
    generator = torch.Generator().manual_seed(0)
    V = torch.randn(6, 6, generator=generator)
    signs = torch.tensor([1.0, -1, -1, 1, -1, 1])
    state = {"parametrizations.weight.original": V, "parametrizations.weight.0.signs": signs}
    module = orthogonal(linear(bias=False))
    module.load_state_dict(state)
    expected = apply_reflectors_reference(V.double(), torch.diag(signs).double()).float()
    assert near(module.weight, expected)


def torch_module(
    shape: tuple[int, int], name: str, trivial: bool, trained: bool, dtype: torch.dtype
) -> nn.Module:
    module = linear(*shape, dtype=dtype)
    parametrizations.orthogonal(module, "weight", name, use_trivialization=trivial)
    if trained:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (module.weight * torch.randn(shape, dtype=dtype)).sum().abs().backward()
            optimizer.step()
    return module


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("assign", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["householder", "cayley", "matrix_exp"])
@pytest.mark.parametrize("trivial", [True, False])
@pytest.mark.parametrize("trained", [True, False])
def test_checkpoints_of_torch_are_converted_or_refused(
    trained: bool, trivial: bool, name: str, shape: tuple[int, int], assign: bool, strict: bool
):
    source = torch_module(shape, name, trivial, trained, torch.float64)
    module = orthogonal(linear(*shape, seed=3, dtype=torch.float64))
    before = module.weight.detach().clone()
    known = not trained if trivial else name == "householder"
    if known:
        module.load_state_dict(source.state_dict(), strict=strict, assign=assign)
        assert near(module.weight, source.weight)
        module.weight = W = q_factor(torch.randn_like(before))
        assert near(module.weight, W)
    else:
        with pytest.raises(RuntimeError, match=r"torch's own orthogonal.*then assign the weight"):
            module.load_state_dict(source.state_dict(), strict=strict, assign=assign)
        assert torch.equal(module.weight, before)
        module.weight = source.weight.detach()
        assert near(module.weight, source.weight)


def test_checkpoints_of_torch_in_a_model_and_of_few_reflectors():
    source = nn.Sequential(torch_module((5, 3), "householder", False, True, torch.float32))
    module = nn.Sequential(copy.deepcopy(orthogonal(linear(5, 3, seed=2))))
    module.load_state_dict(source.state_dict())
    assert near(module[0].weight, source[0].weight)
    few = orthogonal(linear(5, 3), n_reflectors=1)
    before = few.weight.detach().clone()
    with pytest.raises(RuntimeError, match=r"size mismatch|cannot make"):
        few.load_state_dict(source[0].state_dict(), strict=False)
    assert torch.equal(few.weight, before)


def test_reflectors_without_signs_are_refused_even_if_not_strict():
    state = {"parametrizations.weight.original": torch.randn(6, 6)}
    for module in (orthogonal(linear()), orthogonal(orthogonal(linear()))):
        before = module.weight.detach().clone()
        with pytest.raises(RuntimeError, match=r"original. is of torch's own.*assign the weight"):
            module.load_state_dict(state, strict=False)
        assert torch.equal(module.weight, before)
        module.load_state_dict({}, strict=False)

"""The reference loop over reflectors keeps √n of its partial products where they are large."""

import torch
from torch.autograd.graph import saved_tensors_hooks

from kernels import reference


def gradients_and_bytes(V, X):
    """The gradients of sum(sin(H X)) and the bytes of what autograd keeps for them."""
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        loss = reference.apply_reflectors_reference(V, X).sin().sum()
    return torch.autograd.grad(loss, (V, X)), sum(kept.values())


def test_large_products_are_computed_again(monkeypatch):
    V = torch.randn(64, 64, dtype=torch.float64, requires_grad=True)
    X = torch.randn(64, 64, dtype=torch.float64, requires_grad=True)
    expected, everything = gradients_and_bytes(V, X)
    monkeypatch.setattr(reference, "LARGEST_GRAPH", 0)
    gradients, some = gradients_and_bytes(V, X)
    assert all(map(torch.equal, gradients, expected))
    assert some < everything / 5

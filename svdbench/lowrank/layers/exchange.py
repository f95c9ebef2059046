"""Layers of a model in the places of others."""

from collections.abc import Mapping
from copy import deepcopy
from itertools import chain

from torch import nn

from svdbench.lowrank.layers.base import LowRankLayer

# Where a transformer layer keeps its `activation_relu_or_gelu` while it is 0.
BEFORE = "_dense_activation_relu_or_gelu"


def exchanged(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """A copy of the model with other modules in some places; parameters and buffers are shared.

    A ``deepcopy`` of it is independent, and has no copy of what was replaced.
    """
    memo: dict[int, object] = {id(t): t for t in chain(model.parameters(), model.buffers())}
    memo.update((id(old), module) for old, module in new.items())
    copy = deepcopy(model, memo)
    _settle(copy)
    return copy


def exchange(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """The model itself with other modules in some places; what replaces it, if that is one."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # a child may have two names
            if child is not None and child in new:
                setattr(parent, name, new[child])
    model = new.get(model, model)
    _settle(model)
    return model


def _settle(model: nn.Module) -> None:
    """Keeps torch's transformers from reading dense weights where there are factors.

    For inference ``nn.TransformerEncoderLayer`` hands the weights of its layers to one fused
    function, unless ``activation_relu_or_gelu`` is 0, and ``nn.TransformerEncoder`` prepares
    nested tensors for it. Without those its outputs at padded positions are not set to zero,
    as they are not while it is trained.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            before = vars(module).pop(BEFORE, module.activation_relu_or_gelu)
            module.activation_relu_or_gelu = before
            if _has_factors(module):
                module.activation_relu_or_gelu = 0
                setattr(module, BEFORE, before)
        elif isinstance(module, nn.TransformerEncoder) and _has_factors(module):
            module.use_nested_tensor = False


def _has_factors(module: nn.Module) -> bool:
    return any(isinstance(each, LowRankLayer) for each in module.modules())

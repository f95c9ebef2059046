"""Layers of a model in the places of others."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import chain

from torch import Tensor, nn

from svdbench.lowrank.layers.base import LowRankLayer

# Where a transformer layer keeps its `activation_relu_or_gelu` while it is 0.
BEFORE = "_dense_activation_relu_or_gelu"


def exchanged(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """A copy of the model with other modules in some places; parameters and buffers are shared.

    A :func:`copied` one is independent, and has no copy of what was replaced.
    """
    shared = chain(model.parameters(), model.buffers(), _made_by_hooks(model))
    memo: dict[int, object] = {id(tensor): tensor for tensor in shared}
    memo.update((id(old), module) for old, module in new.items())
    copy = _deepcopy(model, memo)
    _settle(copy)
    return copy


def copied(model: nn.Module) -> nn.Module:
    """An independent copy of a model."""
    return _deepcopy(model, {id(t): t.detach().clone() for t in _made_by_hooks(model)})


def _made_by_hooks(model: nn.Module) -> Iterator[Tensor]:
    """Weights with a graph, as old-style weight_norm and pruning keep them: made at every call."""
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                yield value


def _deepcopy(model: nn.Module, memo: dict[int, object]) -> nn.Module:
    try:
        return deepcopy(model, memo)
    except (RuntimeError, TypeError) as error:
        raise TypeError(
            f"the model can't be copied ({error}): keep out of it what copy.deepcopy can't copy, "
            "as open files, locks and tensors with a graph"
        ) from error


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

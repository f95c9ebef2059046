"""How large a model is: all its parameters, those that are shared counted once."""

from torch import nn


def numbers_of(model: nn.Module) -> int:
    """Numbers in all parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def bytes_of(model: nn.Module) -> int:
    """Their bytes."""
    return sum(p.numel() * p.element_size() for p in model.parameters())

"""The kinds of layers, by the exact class of a module: every ``LayerKind`` of this package."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from torch import nn

import svdbench.lowrank.layers as package
from svdbench.lowrank.layers.base import LayerKind, LowRankLayer


def kind_of(module: nn.Module) -> LayerKind | None:
    """What a module is, if it can be factored; None for classes derived from those too."""
    return _kinds().get(type(module))


def derived_from(module: nn.Module) -> type[nn.Module] | None:
    """The class of layers that a module's own class derives from, if it is one of those known."""
    return next((cls for cls in type(module).__mro__[1:] if cls in _kinds()), None)


def kind_of_low_rank(layer: LowRankLayer) -> LayerKind:
    """The kind that made a factored layer, and that can make it dense again.

    Raises:
        TypeError: none did.
    """
    for kind in _kinds().values():
        if isinstance(layer, kind.low_rank):
            return kind
    raise TypeError(f"a {type(layer).__name__} has no dense form here")


@cache
def _kinds() -> dict[type[nn.Module], LayerKind]:
    for found in iter_modules(package.__path__):
        import_module(f"{package.__name__}.{found.name}")
    kinds = [kind() for kind in LayerKind.__subclasses__()]
    return {dense: kind for kind in kinds for dense in kind.dense}

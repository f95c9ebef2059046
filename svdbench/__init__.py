"""svdbench: neural networks whose weights carry an SVD, measured and made fast.

The layers are in :mod:`svdbench.nn`, compression in :mod:`svdbench.lowrank`, the
Householder core in :mod:`svdbench.kernels`; ``svdbench --help`` lists the experiments.
These modules are imported on first use, as they need torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svdbench import kernels, lowrank, nn

    __version__: str
    version: str

__all__ = ["__version__", "kernels", "lowrank", "nn", "version"]


def __getattr__(name: str) -> Any:
    """The version, or a module for users, when it is asked for."""
    if name in ("__version__", "version"):
        value: Any = import_module(f"{__name__}._version").__version__
    elif name in __all__:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

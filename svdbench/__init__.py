"""svdbench: neural networks whose weights carry an SVD, measured and made fast.

The layers are in :mod:`svdbench.nn`, compression in :mod:`svdbench.lowrank`, the
Householder core in :mod:`svdbench.kernels`, and base classes for methods, models and tasks of
your own in :mod:`svdbench.extend`; ``svdbench --help`` lists the experiments. :func:`run` runs one
of them from Python, and :func:`load` reads its results back.
Everything is imported on first use, as it needs torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from svdbench import extend, kernels, lowrank, nn
    from svdbench.errors import UserError
    from svdbench.running.result import RunResult, load, run

    __version__: str
    version: str

__all__ = [
    "RunResult",
    "UserError",
    "__version__",
    "extend",
    "kernels",
    "load",
    "lowrank",
    "nn",
    "run",
    "version",
]
# Names that users import from here, and the modules that have them.
_HOMES = {
    "RunResult": "running.result",
    "UserError": "errors",
    "__version__": "_version",
    "load": "running.result",
    "run": "running.result",
}


def __getattr__(name: str) -> Any:
    """A module, function or class for users, imported on first use."""
    value: Any
    if name == "version":
        value = import_module(f"{__name__}._version").__version__
    elif name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in __all__:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Members of a group, such as methods or models: listed, checked and made by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from inspect import signature
from pkgutil import iter_modules
from typing import Any

from svdbench.files import documents


@dataclass(frozen=True)
class Registry:
    """A group whose members each have a class and a YAML file with its options.

    The class has the member's name as its own attribute ``name`` and lives in any file of the
    package of the base class; the options are in ``conf/<folder>/<name>.yaml``. No list of
    members is kept anywhere else.

    Args:
        folder: Folder in ``conf``, and the group's key in a job's configuration.
        what: One member, in words, for messages.
        base: Base class of all members, as ``"package.module:Class"``. It is imported only when
            a member is made, so that listing names does not wait for torch.

    Example:
        >>> METHODS.names()[:2]
        ['cayley', 'cayley_dense']
        >>> METHODS.load("fasth", block_size=64).kind
        'householder'
    """

    folder: str
    what: str
    base: str

    def names(self) -> list[str]:
        """Names of all members, sorted. Does not import torch."""
        from importlib.resources import files

        folder = files("svdbench.conf") / self.folder
        return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))

    def check(self, names: Sequence[str]) -> None:
        """Refuse unknown names.

        Raises:
            ValueError: With the nearest name and all known names.
        """
        refuse_unknown(self.what, names, self.names())

    def class_of(self, name: str) -> Any:
        """The class of the member ``name``."""
        self.check([name])
        module, _, base = self.base.partition(":")
        return _classes(module, base)[name]

    def load(self, name: str, **options: Any) -> Any:
        """The member ``name`` with the options of its YAML, some of them overridden.

        Hyphens, capitals and surrounding blanks in the name do not matter.

        Raises:
            ValueError: There is no such member or option, or a value does not fit.
        """
        name = plain(name)
        own = self.options_of(name)
        refuse_unknown(f"option of {name}", list(options), sorted(own))
        return self.class_of(name)(**{**own, **options})

    def options_of(self, name: str) -> dict[str, Any]:
        """The options of the member ``name``, with the values that its YAML gives them."""
        from importlib.resources import files

        self.check([name])
        path = files("svdbench.conf") / self.folder / f"{name}.yaml"
        return next(iter(documents(path.read_text(encoding="utf-8"))), {})

    def make(self, name: str, options: Mapping[str, Any]) -> Any:
        """The member ``name`` with exactly these options.

        Raises:
            ValueError: There is no such member or option, or a value does not fit.
        """
        kind = self.class_of(name)
        # Runs of version 0.1 also named the class here. Nothing that a file names is imported.
        own = {key: value for key, value in options.items() if key != "_target_"}
        known = {*signature(kind).parameters, *self.options_of(name)}
        refuse_unknown(f"option of {name}", list(own), sorted(known))
        return kind(**own)


METHODS = Registry(
    "orthogonal", "orthogonal method", "svdbench.jobs.time_fasth.methods.base:Method"
)
OPERATIONS = Registry(
    "matrix_op", "matrix operation", "svdbench.jobs.time_svd_ops.operations:MatrixOp"
)
LOOPS = Registry("rnn", "way to run the loop", "svdbench.jobs.time_rnn.loops:RNNLoop")
DRIVERS = Registry("svd_driver", "SVD driver", "svdbench.jobs.time_svd.drivers:SVDDriver")
COMPRESSORS = Registry("compressor", "compressor", "svdbench.jobs.compress.compressors:Compressor")
MODELS = Registry("model", "model", "svdbench.models.base:SequenceModel")
TASKS = Registry("task", "task", "svdbench.tasks.base:Task")
DATASETS = Registry("dataset", "data set", "svdbench.datasets.base:Dataset")


@cache
def _classes(module: str, base: str) -> dict[str, Any]:
    """Classes that derive from ``base``, by their own names.

    They are in its module, or in those beside it where that one is called ``base``.
    """
    kind = getattr(import_module(module), base)
    package, _, last = module.rpartition(".")
    own: dict[str, Any] = {}
    infos = iter_modules(import_module(package).__path__, f"{package}.")
    for name in [info.name for info in infos] if last == "base" else [module]:
        for value in vars(import_module(name)).values():
            if isinstance(value, type) and issubclass(value, kind) and "name" in vars(value):
                own[plain(vars(value)["name"])] = value
    return own


def plain(name: str) -> str:
    """A name as its YAML spells it: hyphens, capitals and surrounding blanks do not matter."""
    return name.strip().lower().replace("-", "_")


def refuse_unknown(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError for the first of ``given`` that is not known, with the nearest that is."""
    for name in given:
        if name not in known:
            from difflib import get_close_matches

            close = get_close_matches(name.lower(), known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            listed = ", ".join(known) or "none"
            raise ValueError(f"no {what} is called {name!r}: {hint}known: {listed}")


def refuse_repeated(what: str, values: Sequence[Any]) -> None:
    """Refuse a list that has something twice, which would be the same work twice.

    Raises:
        ValueError: with what stands there twice.
    """
    for number, value in enumerate(values):
        if value in values[:number]:
            text = "null" if value is None else value
            raise ValueError(f"{what} has {text} twice: give it once")

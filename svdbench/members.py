"""Members of a group, such as methods or models: listed, checked and made by name.

A member is ours, or of an installed package that has an entry point for the group, or of the
user's own: MODULE:CLASS. Only this module imports by name, and only names that a person typed:
whoever reads a configuration from a file refuses its :func:`references`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from svdbench.errors import Failed, UserError, nearest
from svdbench.files import conf_names, documents
from svdbench.user_code import described, user_code

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint
    from importlib.resources.abc import Traversable

_REFERENCE = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")
# Usual names of members that have another one here.
SYNONYMS = {("task", "adding"): "addition", ("task", "copying"): "copy"}
_PLAIN = (bool, int, float, str, type(None))
# Keys of a configuration whose values are always paths, even where they look like references.
_PATHS = frozenset({"results", "dir", "data_dir", "weights", "resume", "text"})


@dataclass(frozen=True)
class Registry:
    """A group whose members each have a class, and ours a YAML file with its options.

    The class of one of ours has the member's name as its own attribute ``name`` and lives in
    any file of the package of the base class; the options are in ``conf/<folder>/<name>.yaml``.
    No list of members is kept anywhere else. Those of other packages are the entry points of
    the group ``svdbench.<plural>``, or ``svdbench.<folder>`` as in version 0.1; their options are
    the constructor's.

    Args:
        folder: Folder in ``conf``, and the group's key in a job's configuration.
        what: One member, in words, for messages.
        base: Base class of all members, as ``"package.module:Class"``. It is imported only when
            a member is made, so that listing names does not wait for torch.
        plural: The members in one word, and the group of entry points: ``svdbench.<plural>``.

    Example:
        >>> METHODS.names()[:2]
        ['cayley', 'cayley_dense']
        >>> METHODS.load("fasth", block_size=64).kind
        'householder'
    """

    folder: str
    what: str
    base: str
    plural: str

    @property
    def kind(self) -> str:
        """The name of the base class, as in ``svdbench.extend``."""
        return self.base.partition(":")[2]

    def base_class(self) -> Any:
        """The class that all members derive from."""
        module, _, base = self.base.partition(":")
        return getattr(import_module(module), base)

    def contract(self) -> Any:
        """What all members must do: the ``CONTRACT`` of the module ``contract`` beside the base."""
        package = self.base.partition(":")[0].rpartition(".")[0]
        return import_module(f"{package}.contract").CONTRACT

    def names(self) -> list[str]:
        """Names of our members, sorted. Does not import torch."""
        return conf_names(self.folder)

    def canonical(self, name: str) -> str:
        """A name as ``conf`` spells it: :func:`plain`, and one of several usual names."""
        name = plain(name)
        return SYNONYMS.get((self.folder, name), name)

    def described(self) -> dict[str, str]:
        """Our members with the first line of their YAML, which says what each is."""
        from importlib.resources import files

        folder = files("svdbench.conf") / self.folder
        return {name: headline(folder / f"{name}.yaml") for name in self.names()}

    def packages(self) -> dict[str, str]:
        """Other packages' members, with the package that each is of."""
        found = self._entry_points()
        return {
            name: (found[name].dist and found[name].dist.name) or "unknown"  # type: ignore[union-attr]
            for name in self.installed()
        }

    def installed(self) -> list[str]:
        """Names of other packages' members, sorted; one of ours hides theirs."""
        return sorted(self._entry_points().keys() - set(self.names()))

    def known(self) -> list[str]:
        """Names of our members, then those of other packages'. Imports none of them."""
        return [*self.names(), *self.installed()]

    def check(self, names: Sequence[str]) -> None:
        """Refuse unknown names; MODULE:CLASS is looked up when the member is made.

        Raises:
            ValueError: With the nearest name and all known names.
        """
        known = self.names()
        others = [name for name in names if name not in known and not is_reference(name)]
        if others:
            refuse_unknown(self.what, others, self.known())

    def is_ours(self, name: str) -> bool:
        """Whether a known name has a YAML, and so a place in every configuration."""
        self.check([name])
        return name in self.names()

    def class_of(self, name: str) -> Any:
        """The class of a member.

        Raises:
            ValueError: There is no such member, or it is no class of this group.
            UserError, Failed: Other people's module is not there, or fails.
        """
        module, _, base = self.base.partition(":")
        if self.is_ours(name):
            return _classes(module, base)[name]
        if is_reference(name):
            found = imported(name, f"a {self.what}")
        else:
            with user_code(name):
                found = self._entry_points()[name].load()
        if not (isinstance(found, type) and issubclass(found, self.base_class())):
            raise ValueError(
                f"{name} is not a class derived from svdbench.extend.{base}: derive it from that"
            )
        return found

    def load(self, name: str, /, **options: Any) -> Any:
        """The member ``name`` with the options of its YAML, some of them overridden.

        Hyphens, capitals and surrounding blanks in the name do not matter, except in
        MODULE:CLASS.

        Raises:
            ValueError: There is no such member or option, or a value does not fit.
            UserError, Failed: Other people's code is not there, or fails.
        """
        name = self.canonical(name)
        kind = self.class_of(name)
        # Runs of version 0.1 also named the class here. Nothing that a file names is imported.
        options.pop("_target_", None)
        own = self.options_of(name)
        known = {*own, *(each.name for each in _parameters(kind))}
        if self.is_ours(name):
            refuse_unknown(f"option of {name}", list(options), sorted(known))
            return kind(**{**own, **options})
        if not _takes_any(kind):
            refuse_unknown(f"option of {name}", list(options), sorted(known))
        with user_code(name):
            return kind(**options)

    def options_of(self, name: str) -> dict[str, Any]:
        """The options of a member with their values: of its YAML, else of its constructor.

        Of a constructor, those with a default that a configuration can hold.
        """
        if not self.is_ours(name):
            defaults = {each.name: each.default for each in _parameters(self.class_of(name))}
            return {key: value for key, value in defaults.items() if isinstance(value, _PLAIN)}
        from importlib.resources import files

        path = files("svdbench.conf") / self.folder / f"{name}.yaml"
        return next(iter(documents(path.read_text(encoding="utf-8"))), {})

    def _entry_points(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points

        groups = (f"svdbench.{self.folder}", f"svdbench.{self.plural}")
        return {plain(each.name): each for group in groups for each in entry_points(group=group)}


METHODS = Registry(
    "orthogonal", "orthogonal method", "svdbench.jobs.time_fasth.methods.base:Method", "methods"
)
OPERATIONS = Registry(
    "matrix_op",
    "matrix operation",
    "svdbench.jobs.time_svd_ops.operations:MatrixOp",
    "operations",
)
LOOPS = Registry("rnn", "way to run the loop", "svdbench.jobs.time_rnn.loops:RNNLoop", "loops")
LAYERS = Registry("layer", "layer", "svdbench.jobs.time_layers.layers:Layer", "layers")
DRIVERS = Registry(
    "svd_driver", "SVD driver", "svdbench.jobs.time_svd.drivers:SVDDriver", "drivers"
)
COMPRESSORS = Registry(
    "compressor", "compressor", "svdbench.jobs.compress.compressors:Compressor", "compressors"
)
MODEL_COMPRESSORS = Registry(
    "model_compressor",
    "model compressor",
    "svdbench.jobs.time_compressors.methods.base:ModelCompressor",
    "modelcompressors",
)
ARMS = Registry("arm", "arm", "svdbench.jobs.accelerate.arms.base:LowRankArm", "arms")
MODELS = Registry("model", "model", "svdbench.models.base:SequenceModel", "models")
TASKS = Registry("task", "task", "svdbench.tasks.base:Task", "tasks")
DATASETS = Registry("dataset", "data set", "svdbench.datasets.base:Dataset", "datasets")


def groups() -> list[Registry]:
    """All groups of members."""
    return [value for value in globals().values() if isinstance(value, Registry)]


def headline(path: Traversable) -> str:
    """The first comment of a YAML file, its first sentence."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            lines.append(line.lstrip("# "))
    text = " ".join(lines)
    return re.split(r"\. (?=[A-Z])", text)[0].rstrip(".")


def _parameters(kind: Any) -> list[Parameter]:
    """The parameters of a class that have names."""
    variadic = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [each for each in signature(kind).parameters.values() if each.kind not in variadic]


def _takes_any(kind: Any) -> bool:
    """Whether a class takes options under any name, for its base class perhaps."""
    return any(each.kind is Parameter.VAR_KEYWORD for each in signature(kind).parameters.values())


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
    """A name as its YAML spells it: hyphens, capitals and surrounding blanks do not matter.

    MODULE:CLASS stays as it is.
    """
    name = name.strip()
    return name if is_reference(name) else name.lower().replace("-", "_")


def is_reference(name: Any) -> bool:
    """Whether something has the form MODULE:NAME."""
    return isinstance(name, str) and _REFERENCE.fullmatch(name) is not None


def is_main(reference: str) -> bool:
    """Whether a reference is to a notebook or script, which no other process can import."""
    return reference.startswith("__main__:")


def references(config: Any) -> list[str]:
    """What a configuration names of other people's code, as MODULE:NAME: each once, in order.

    Args:
        config: plain values; paths, such as ``results``, are passed over.
    """
    return list(dict.fromkeys(_references(config)))


def _references(value: Any) -> Iterator[str]:
    if is_reference(value):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _references(key)
            if key not in _PATHS:
                yield from _references(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _references(inner)


def imported(reference: str, what: str) -> Any:
    """What MODULE:NAME names. The module is looked for in the current folder, then on the path.

    Args:
        what: it is to be, in words.

    Raises:
        UserError: there is no such module or name.
        Failed: the module fails.
    """
    module, colon, path = reference.partition(":")
    if not (colon and module and path) or ":" in path:
        raise UserError(
            f"{reference!r} does not name {what}: write MODULE:FUNCTION, such as my_net:build"
        )
    with user_code(reference):
        found = _module(module, reference)
        if is_main(reference) and not hasattr(found, path.partition(".")[0]):
            raise UserError(
                f"{reference} was defined in a notebook or script: call svdbench.run there, or "
                "write it to a module and name that"
            )
        for name in path.split("."):
            if not hasattr(found, name):
                close = nearest(name, [n for n in dir(found) if n[0] != "_"])
                hint = f"did you mean {close!r}?" if close else "check the spelling"
                raise UserError(f"{reference}: {module} has no {name!r}: {hint}")
            found = getattr(found, name)
    return found


def _module(name: str, reference: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"{reference}: there is no module {error.name!r} in this folder or on the path: "
                "run in its folder, or add that to PYTHONPATH"
            ) from error
        raise UserError(f"{reference}: {name} needs {error.name}: install it") from error
    except SyntaxError as error:
        raise Failed(f"{reference}: importing {name} failed: {described(error)}") from error


def refuse_unknown(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError for the first of ``given`` that is not known, with the nearest that is."""
    for name in given:
        if name not in known:
            close = nearest(name.lower(), known)
            hint = f"did you mean {close!r}? " if close else ""
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

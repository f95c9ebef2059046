"""Finding what can be timed: every YAML in a group's folder of ``conf``, named like its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from typing import Any

from svdbench.reading import documents


@dataclass(frozen=True)
class Group:
    """A folder of ``conf`` whose YAMLs each name a class and its options.

    Attributes:
        folder: in ``conf``; also the key in a command's configuration.
        what: one of them, in words.
        base: the class that all of them derive from, with its module; imported
            late, as listing the names must not wait for torch.
    """

    folder: str
    what: str
    base: str

    def names(self) -> list[str]:
        """The names of all members, sorted. Does not import torch."""
        folder = files("svdbench.conf") / self.folder
        return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))

    def check(self, names: Sequence[str]) -> None:
        """Refuse names of members that do not exist.

        Raises:
            ValueError: with the nearest name and those known.
        """
        refuse_unknown(self.what, names, self.names())

    def load(self, name: str, **overrides: Any) -> Any:
        """The member ``name`` with the options of its YAML, some of them overridden.

        Raises:
            ValueError: there is no such member or option, or the YAML names a class
                that is not of this group.
        """
        self.check([name])
        path = files("svdbench.conf") / self.folder / f"{name}.yaml"
        options: dict[str, Any] = documents(path.read_text(encoding="utf-8"))[0]
        target = str(options.pop("_target_", ""))
        refuse_unknown(f"option of {name}", list(overrides), sorted(options))
        return self.class_of(target, name)(**{**options, **overrides})

    def class_of(self, target: str, name: str) -> Any:
        """The class that ``_target_`` of ``name``.yaml names; ValueError if it is not of ours."""
        module, _, attribute = self.base.rpartition(".")
        base = getattr(import_module(module), attribute)
        package = module.rpartition(".")[0]
        if not target.startswith(f"{package}."):
            raise ValueError(f"{name}.yaml: _target_ {target!r} is not inside {package}")
        module, _, attribute = target.rpartition(".")
        found = getattr(import_module(module), attribute, None)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise ValueError(f"{name}.yaml: _target_ {target!r} is not a {base.__name__}")
        return found


def plain(name: str) -> str:
    """A name as its YAML has it, where hyphens, capitals and outer blanks do not matter."""
    return name.strip().lower().replace("-", "_")


def refuse_unknown(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Raise ValueError for the first of ``given`` that is not known, with the nearest that is."""
    for name in given:
        if name not in known:
            close = get_close_matches(name.lower(), known, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            listed = ", ".join(known) or "none"
            raise ValueError(f"no {what} is called {name!r}: {hint}known: {listed}")

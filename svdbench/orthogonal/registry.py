"""Finding the methods: every YAML in ``conf/orthogonal`` is one, named like its file."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # listing the names must not wait for torch
    from .base import Method

_PACKAGE = "svdbench."


def method_names() -> list[str]:
    """The names of all methods, sorted. Does not import torch."""
    folder = files("svdbench.conf") / "orthogonal"
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))


def load_method(name: str, **overrides: Any) -> Method:
    """The method ``name`` with the options of its YAML, some of them overridden.

    Raises:
        ValueError: there is no such method or option, or the YAML names a class
            that is not a ``Method`` of svdbench.
    """
    from omegaconf import OmegaConf

    check_names([name])
    text = (files("svdbench.conf") / "orthogonal" / f"{name}.yaml").read_text(encoding="utf-8")
    options: dict[str, Any] = dict(OmegaConf.to_container(OmegaConf.create(text)))  # type: ignore[arg-type]
    target = str(options.pop("_target_", ""))
    for option in overrides:
        if option not in options:
            raise ValueError(_unknown(f"option of {name}", option, sorted(options)))
    return _class(target, name)(**{**options, **overrides})


def check_names(names: list[str]) -> None:
    """Refuse names of methods that do not exist.

    Raises:
        ValueError: with the nearest name and those known.
    """
    known = method_names()
    for name in names:
        if name not in known:
            raise ValueError(_unknown("orthogonal method", name, known))


def _class(target: str, name: str) -> type[Method]:
    from .base import Method

    if not target.startswith(_PACKAGE):
        raise ValueError(f"{name}.yaml: _target_ {target!r} is not inside {_PACKAGE[:-1]}")
    module, _, attribute = target.rpartition(".")
    found = getattr(import_module(module), attribute, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ValueError(f"{name}.yaml: _target_ {target!r} is not a Method")
    return found


def _unknown(what: str, given: str, known: list[str]) -> str:
    close = get_close_matches(given.lower(), known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"no {what} is called {given!r}: {hint}known: {', '.join(known) or 'none'}"

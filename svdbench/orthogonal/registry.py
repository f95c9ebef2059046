"""Finding the methods: every YAML in ``conf/orthogonal`` is one, named like its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svdbench.registry import Group

if TYPE_CHECKING:  # listing the names must not wait for torch
    from .base import Method

GROUP = Group("orthogonal", "orthogonal method", "svdbench.orthogonal.base.Method")


def method_names() -> list[str]:
    """The names of all methods, sorted. Does not import torch."""
    return GROUP.names()


def load_method(name: str, **overrides: Any) -> Method:
    """The method ``name`` with the options of its YAML, some of them overridden.

    Raises:
        ValueError: there is no such method or option, or the YAML names a class
            that is not a ``Method`` of svdbench.
    """
    method: Method = GROUP.load(name, **overrides)
    return method


def check_names(names: list[str]) -> None:
    """Refuse names of methods that do not exist.

    Raises:
        ValueError: with the nearest name and those known.
    """
    GROUP.check(names)


def _class(target: str, name: str) -> type[Method]:
    found: type[Method] = GROUP.class_of(target, name)
    return found

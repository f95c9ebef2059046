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

"""Finding the models: every YAML in ``conf/model`` is one, named like its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from svdbench.registry import Group, plain

if TYPE_CHECKING:  # listing the names must not wait for torch
    from .base import SequenceModel

GROUP = Group("model", "model", "svdbench.models.base.SequenceModel")


def model_names() -> list[str]:
    """The names of all models, sorted. Does not import torch."""
    return GROUP.names()


def load_model(name: str, input_size: int, output_size: int, **overrides: Any) -> SequenceModel:
    """The model ``name`` with the options of its YAML, some of them overridden.

    It starts from torch's global random state. In a name, hyphens and underscores are the
    same.

    Raises:
        ValueError: there is no such model or option, an option has a value that does not
            fit, or the YAML names a class that is not a ``SequenceModel`` of svdbench.
    """
    sizes = {"input_size": input_size, "output_size": output_size}
    model: SequenceModel = GROUP.load(plain(name), **{**overrides, **sizes})
    return model

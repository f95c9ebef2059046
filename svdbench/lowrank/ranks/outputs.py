"""What models return: a tensor, or a tuple, dict, dataclass or ``ModelOutput`` that has one.

The outputs of a dense model can be the targets of a compressed one: :func:`with_teacher`.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.lowrank.ranks.examples import (
    Data,
    Inputs,
    batches,
    called,
    each,
    evaluating,
    size,
    tensors,
    whole,
)

# The outputs of transformers' models that are taken, the first of them that there is.
NAMES = ("logits", "last_hidden_state", "pooler_output")


def output_tensor(output: Any) -> Tensor:
    """The tensor in what a model returns that a loss is of.

    Args:
        output: a tensor is taken as it is. Of a dict, a dataclass or a ``ModelOutput`` of
            transformers it is ``logits``, else ``last_hidden_state``, else ``pooler_output``,
            else the only floating-point tensor; of a tuple the first floating-point tensor.

    Raises:
        ValueError: there is none, or several and it is not clear which.

    Example:
        >>> output_tensor({"logits": torch.ones(2, 3), "hidden": torch.ones(2, 8)}).shape
        torch.Size([2, 3])
    """
    if isinstance(output, Tensor):
        return output
    named = named_outputs(output) or {}
    known = [named[name] for name in NAMES if _is_float(named.get(name))]
    if isinstance(output, tuple | list):
        parts: Iterable[Any] = output
    else:
        parts = named.values()
    floats = [part for part in parts if _is_float(part)]
    if known or len(floats) == 1 or (floats and isinstance(output, tuple | list)):
        return (known or floats)[0]
    raise ValueError(
        f"the model returns {described(output)}: return a tensor, name one of them logits, or give "
        "a loss that takes what the model returns"
    )


def named_outputs(output: Any) -> dict[str, Any] | None:
    """The outputs of a model by name; None where they have none, as of a tensor or a tuple."""
    if isinstance(output, Mapping):
        return {str(name): part for name, part in output.items()}
    if is_dataclass(output) and not isinstance(output, type):
        return {each.name: getattr(output, each.name) for each in fields(output)}
    names = getattr(output, "_fields", None) if isinstance(output, tuple) else None
    return None if names is None else dict(zip(names, output, strict=True))


def described(output: Any) -> str:
    """What a model returns, in words: its type, and the sizes of its tensors."""
    kind = type(output).__name__
    named = named_outputs(output)
    if named is not None:
        parts = [f"{name} {_size(part)}" for name, part in named.items() if part is not None]
    elif isinstance(output, tuple | list):
        parts = [_size(part) for part in output]
    elif isinstance(output, Tensor):
        return f"a {str(output.dtype).removeprefix('torch.')} tensor {_size(output)}"
    else:
        return "None" if output is None else f"a {kind}"
    return f"a {kind} of {', '.join(parts)}" if parts else f"an empty {kind}"


def each_output(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure with a function applied to its tensors; all else is as it was."""
    if isinstance(output, Tensor):
        return change(output)
    if isinstance(output, tuple):
        parts = [each_output(part, change) for part in output]
        return type(output)(*parts) if hasattr(output, "_fields") else tuple(parts)
    if isinstance(output, list):
        return [each_output(part, change) for part in output]
    if is_dataclass(output) and not isinstance(output, type):  # a ModelOutput is one, too
        new = copy(output)
        for name, part in (named_outputs(output) or {}).items():
            object.__setattr__(new, name, each_output(part, change))
            if isinstance(new, dict) and name in new:
                dict.__setitem__(new, name, getattr(new, name))
        return new
    if isinstance(output, Mapping):
        return {name: each_output(part, change) for name, part in output.items()}
    return output


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors in what a model returns, in the order of :func:`each_output`."""
    found: list[Tensor] = []

    def keep(part: Tensor) -> Tensor:
        found.append(part)
        return part

    each_output(output, keep)
    return found


def _is_float(part: Any) -> bool:
    return isinstance(part, Tensor) and part.is_floating_point()


def _size(part: Any) -> str:
    if isinstance(part, Tensor):
        return f"({', '.join(map(str, part.shape))})"
    return f"(a {type(part).__name__})"


# Bytes of outputs that are kept; what goes beyond is computed anew in each pass.
KEPT = 2**28


def with_teacher(data: Data, model: nn.Module, kept: int = KEPT) -> Data:
    """The same inputs with a model's own outputs as targets; what is whole stays so if it fits.

    Args:
        data: examples; their targets, if any, are not used.
        model: the dense one, in evaluation mode meanwhile.
        kept: bytes of its outputs to keep.
    """
    taught, split = TeacherData(data, model, kept), whole(data)
    if split is None:
        return taught
    X, _ = split
    _, first = next(iter(taught))
    if first.numel() * first.element_size() * size(X) > kept * len(first):
        return taught
    return X, torch.cat([y for _, y in taught])


class TeacherData(Iterable[tuple[Inputs, Tensor]]):
    """Batches of inputs with a model's own outputs as their targets, see :func:`with_teacher`.

    Outputs are kept between passes, as many as fit, each for inputs of the same numbers.
    """

    def __init__(self, data: Data, model: nn.Module, kept: int = KEPT) -> None:
        self.data, self.model, self.left = data, model, kept
        self.known: dict[bytes, Tensor] = {}

    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        for x, _ in batches(self.data, self.model):
            yield x, self._output(x)

    def _output(self, x: Inputs) -> Tensor:
        key = _digest(x)  # and not the number of the batch, as a loader may shuffle
        if key in self.known:
            return self.known[key]
        with torch.no_grad(), evaluating(self.model):
            output = output_tensor(called(self.model, each(x, torch.clone))).detach()
        bytes_of_output = output.numel() * output.element_size()
        if bytes_of_output <= self.left:
            self.known[key] = output
            self.left -= bytes_of_output
        return output


def _digest(x: Inputs) -> bytes:
    found = hashlib.blake2b(repr(each(x, lambda part: part.new_empty(0))).encode())
    for part in tensors(x):
        found.update(repr((part.shape, part.dtype)).encode())
        found.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.digest()

"""Examples in batches of several forms, and models called with them."""

import ctypes
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from svdbench.errors import one_line, out_of_memory

# What a model is called with: model(x), model(*x) or model(**x). Tensors are (B, …); those of
# several inputs may be (1, …) or have no dimensions, and others None, numbers or text.
Inputs = Tensor | Sequence[Any] | Mapping[str, Any]

# A tensor (B, …), several of them in a tuple or dict, or None.
Targets = Any

# A whole split, or batches of one (a DataLoader). Either is (inputs, targets), or inputs alone;
# of a dict, ``labels`` are the targets.
Data = Inputs | tuple[Inputs, Targets] | Iterable[Any]

# Of the model's output for a batch and its targets: the mean over the batch.
Loss = Callable[[Any, Any], Tensor]

# The targets in a dict of inputs.
LABELS = "labels"

# Of a split that is given whole: examples at once, numbers at once, and positions at once of
# examples that are whole numbers, as each will be many. Activations stay in the cache, and take
# a small part of the model's memory: of an encoder of 29 M parameters, 2¹² positions took 18 times
# as much as the model.
CHUNK, NUMBERS, TOKENS = 512, 2**19, 2**6


# What may stand among the inputs besides tensors.
_PLAIN = bool | int | float | str | None


class DataWarning(UserWarning):
    """Examples that say less than they seem to."""


def check_data(data: Any, name: str = "data") -> None:
    """Raise unless these are examples.

    Raises:
        TypeError: it is neither a whole split nor an iterable of batches.
        ValueError: inputs and targets are not of one number.
    """
    if isinstance(data, tuple | Tensor | Mapping):
        check_batch(data, name)
    elif isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise TypeError(
            f"{name} is {_a(data)}, which holds single examples: give batches, for example "
            "torch.utils.data.DataLoader(…, batch_size=64)"
        )
    elif isinstance(data, str | bytes | nn.Module) or not (
        hasattr(data, "__iter__") or hasattr(data, "__getitem__")
    ):
        raise TypeError(
            f"{name} is {_a(data)}: give (inputs, targets), or an iterable of such "
            "batches, such as a DataLoader"
        )


def whole(data: Data) -> tuple[Inputs, Targets] | None:
    """The inputs and targets of a split that is given whole; None of batches."""
    return _pair(data, "data") if isinstance(data, tuple | Tensor | Mapping) else None


def check_batch(found: Any, what: str = "a batch") -> tuple[Inputs, Targets]:
    """The inputs and targets of a batch, or of a whole split; targets may be None.

    Args:
        found: a pair, or inputs alone: a tensor, a dict, or one of them in a tuple or list. The
            ``labels`` in a dict alone are its targets.

    Raises:
        TypeError: it is no such thing, or not of tensors.
        ValueError: inputs and targets are not of one number.
    """
    x, y = _pair(found, what)
    if isinstance(x, Mapping) and (other := [key for key in x if not isinstance(key, str)]):
        raise TypeError(
            f"the inputs of {what} have the key {other[0]!r}: give the names of arguments of the "
            "model's forward"
        )
    if not isinstance(x, Tensor | Mapping | list | tuple):
        raise TypeError(f"the inputs of {what} are {_a(x)}: give a tensor, or a tuple or dict")
    if other := [part for part in _parts(x) if not isinstance(part, Tensor | _PLAIN)]:
        raise TypeError(f"among the inputs of {what} is {_a(other[0])}: give only tensors")
    if not isinstance(y, Tensor | Mapping | tuple | None) or (
        other := [part for part in _parts(y) if not isinstance(part, Tensor | None)]
    ):
        wrong = other[0] if isinstance(y, Mapping | tuple) else y
        raise TypeError(f"the targets of {what} are {_a(wrong)}: give a tensor")
    for part in [*tensors(x), *tensors(y)]:
        if part.is_meta:
            raise ValueError(f"{what} is on the meta device, and so has no numbers: load the data")
        if part.layout is not torch.strided or part.is_nested:
            raise ValueError(f"{what} has a tensor that is not dense: give dense tensors")
    _check_sizes(x, y, what)
    return x, y


def _check_sizes(x: Inputs, y: Targets, what: str) -> None:
    """Raise ValueError unless every tensor has a row for each example, or one for all."""
    alone = isinstance(x, Tensor)
    if not tensors(x):
        raise ValueError(f"{what} has no inputs: give a tensor, or a tuple or a dict of them")
    lengths = [len(part) for part in tensors(x) if part.ndim]
    if not lengths or any(not part.ndim for part in tensors(y)):
        raise ValueError(
            f"{what} has a tensor without dimensions: give tensors whose first dimension counts "
            "the examples"
        )
    targets = {len(part) for part in tensors(y)}
    count = max(targets, default=max(lengths))
    for length in lengths:
        if length == count or (length == 1 and not alone and count in lengths):
            continue
        if targets:
            raise ValueError(
                f"{what} has {length:,} inputs and {count:,} targets: give one target for "
                "each input"
            )
        raise ValueError(
            f"{what} has inputs of {length:,} and of {count:,} examples: give tensors with a row "
            "for each example, or with one row for all"
        )
    if len(targets) > 1:
        raise ValueError(
            f"{what} has {' and '.join(f'{each:,}' for each in sorted(targets))} targets: give "
            "one for each input"
        )


def _pair(found: Any, what: str) -> tuple[Inputs, Targets]:
    while isinstance(found, tuple | list) and len(found) == 1:
        (found,) = found
    if isinstance(found, Mapping):
        return {k: v for k, v in found.items() if k != LABELS}, found.get(LABELS)
    if isinstance(found, Tensor):
        return found, None
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise TypeError(
            f"{what} is {_a(found)}: give (inputs, targets), or inputs alone; put several inputs "
            "into a tuple, such as ((x1, x2), y), or a dict"
        )
    x, y = found
    return x, y


def has_labels(found: Any) -> bool:
    """Whether the targets of a batch, or of a whole split, are the ``labels`` in a dict."""
    while isinstance(found, tuple | list) and len(found) == 1:
        (found,) = found
    return isinstance(found, Mapping) and found.get(LABELS) is not None


def check_loss(loss: Any) -> None:
    """Raise TypeError unless this is a loss function of outputs and targets."""
    if isinstance(loss, type):
        raise TypeError(f"loss is the class {loss.__name__}: give an instance, {loss.__name__}()")
    if not callable(loss):
        raise TypeError(
            f"loss is {_a(loss)}: give a function of the model's output and the "
            "targets, such as torch.nn.functional.cross_entropy"
        )


def batches(data: Data, model: nn.Module) -> Iterator[tuple[Inputs, Targets]]:
    """Copies of the batches of some data, on the model's device and without a graph.

    Warns where all targets are one and the same class.

    Raises:
        TypeError: batches that are none, see :func:`check_batch`.
        ValueError: no examples, other numbers of inputs and targets, or NaN or infinity
            among the inputs.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    count, classes = 0, set[int]()
    for batch in _cut(data):
        x, y = check_batch(batch)
        if not size(x):
            continue
        _check_finite(x)
        count += size(x)
        if len(classes) < 2 and isinstance(y, Tensor) and _are_classes(y) and y.numel():
            classes |= {int(y.min()), int(y.max())}

        def copied(part: Tensor) -> Tensor:  # as a model may overwrite what it is given
            return part.detach().to(device, copy=True)

        yield each(x, copied), each(y, copied)
    if not count:
        raise ValueError("there are no examples: give at least one")
    if len(classes) == 1 and count > 1:
        warnings.warn(
            f"all {count} labels are {classes.pop()}: a loss on one class says little; shuffle "
            "the data before a part is taken",
            DataWarning,
            stacklevel=3,
        )


def give_back() -> None:
    """Returns memory that was freed to the system, where the C library (glibc) would keep it.

    Activations and moments come and go between results that stay, and would leave holes as
    large as the model.
    """
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    """glibc's ``malloc_trim``, where there is one."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def _check_finite(x: Inputs) -> None:
    """Raise ValueError for NaN and infinity, but not for −∞ in one of several: that masks."""
    several = len(tensors(x)) > 1
    for part in tensors(x):
        if not part.is_floating_point() or part.isfinite().all():
            continue
        if not several or part.isnan().any() or part.isposinf().any():
            raise ValueError("the data has NaN or infinite inputs: clean it first")


def _are_classes(y: Tensor) -> bool:
    return not (y.is_floating_point() or y.is_complex())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards each module's own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def called(model: nn.Module, x: Inputs) -> Any:
    """The output of the model for the inputs of a batch.

    Raises:
        TypeError, ValueError: where it fails and the inputs are of another dtype than its
            parameters, or integers that it may have no rows for; else what it raises.
    """
    try:
        if isinstance(x, Tensor):
            return model(x)
        return model(**x) if isinstance(x, Mapping) else model(*x)
    except RuntimeError as error:
        own = {p.dtype for p in model.parameters() if p.is_floating_point()}
        given = {part.dtype for part in tensors(x)}
        if (
            not out_of_memory(error)
            and len(own) == 1
            and not (own & given)
            and "dtype" in str(error)
        ):
            names = ", ".join(str(dtype) for dtype in given)
            raise TypeError(
                f"the inputs are {names} and the model's parameters {own.pop()}: convert one of "
                f"them ({one_line(error)})"
            ) from error
        raise
    except IndexError as error:
        whole = [part for part in tensors(x) if not part.is_floating_point() and part.numel()]
        if not whole:
            raise
        low, high = min(int(part.min()) for part in whole), max(int(part.max()) for part in whole)
        raise ValueError(
            f"the model fails on integer inputs from {low} to {high}: check that an embedding has "
            f"rows for all of them ({one_line(error)})"
        ) from error


def size(x: Inputs) -> int:
    """How many examples there are in a batch."""
    return max(len(part) for part in tensors(x) if part.ndim)


def tensors(x: Inputs | Targets) -> list[Tensor]:
    """The tensors among the inputs, or the targets, as a list."""
    return [part for part in _parts(x) if isinstance(part, Tensor)]


def each(x: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The inputs, or the targets, with a function applied to each tensor among them."""
    if isinstance(x, Tensor):
        return change(x)
    if isinstance(x, Mapping):
        return {name: each(part, change) for name, part in x.items()}
    return tuple(each(part, change) for part in x) if isinstance(x, tuple | list) else x


def take(x: Any, rows: Tensor | slice) -> Any:
    """The inputs, or the targets, of some examples; what is one for all of them stays so."""
    count = max((len(part) for part in tensors(x) if part.ndim), default=0)

    def taken(part: Tensor) -> Tensor:
        if not part.ndim or len(part) != count:
            return part
        return part[rows if isinstance(rows, slice) else rows.to(part.device)]

    return each(x, taken)


def _parts(x: Any) -> list[Any]:
    if isinstance(x, Mapping):
        return list(x.values())
    return list(x) if isinstance(x, tuple | list) else [x]


def _cut(data: Data) -> Iterable[Any]:
    split = whole(data)
    if split is None:
        yield from data
        return
    X, y = split
    rows = _rows_at_once(X)
    for start in range(0, size(X), rows):
        part = slice(start, start + rows)
        yield take(X, part), take(y, part)


@dataclass(frozen=True)
class Pieces(Iterable[tuple[Inputs, Targets]]):
    """Batches, each in pieces of at most so many numbers, but for a single example."""

    batches: Iterable[Any]
    numbers: int

    def __iter__(self) -> Iterator[tuple[Inputs, Targets]]:
        for batch in self.batches:
            x, y = check_batch(batch)
            count = size(x)
            rows = max(1, min(count, self.numbers * count // max(numbers_in(x), 1)))
            for start in range(0, count, rows):
                part = slice(start, start + rows)
                yield take(x, part), take(y, part)


def in_pieces(data: Data, numbers: int | None) -> Data:
    """The same examples in batches of at most so many numbers; data that is read once stays."""
    if numbers is None or isinstance(data, Iterator):
        return data
    return Pieces(data if whole(data) is None else list(_cut(data)), numbers)


def numbers_in(x: Inputs) -> int:
    """The numbers among the inputs of a batch."""
    return sum(part.numel() for part in tensors(x))


def _rows_at_once(X: Inputs) -> int:
    rows, count = CHUNK, size(X)
    for part in tensors(X):
        most = NUMBERS if part.is_floating_point() else TOKENS
        if part.ndim and len(part) == count:
            rows = min(rows, most * count // max(part.numel(), 1))
    return max(rows, 1)


def _a(found: Any) -> str:
    if isinstance(found, tuple | list):
        return f"a {type(found).__name__} of {len(found)}"
    return "None" if found is None else f"a {type(found).__name__}"

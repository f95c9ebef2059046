"""Examples in batches, the losses of a model on them, and the usual loss for its targets."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from svdbench.errors import one_line, out_of_memory

# What a model is called with: model(x), model(*x) or model(**x), with tensors (B, …).
Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]

# A whole split, or batches of one (a DataLoader): inputs (B, …) and targets (B, …).
Data = tuple[Inputs, Tensor] | Iterable[tuple[Inputs, Tensor]]

# Of the model's output for a batch and its targets: the mean over the batch.
Loss = Callable[[Tensor, Tensor], Tensor]

# Of a split that is given whole: examples at once, numbers at once, and positions at once of
# examples that are whole numbers, as each will be many. Activations stay in the cache, and take
# no more memory than the model does: seen of an encoder of 29 M parameters, with 2¹² positions 18
# times as much.
CHUNK, NUMBERS, TOKENS = 512, 2**19, 2**8


class DataWarning(UserWarning):
    """Examples that say less than they seem to."""


def check_data(data: Any, name: str = "data") -> None:
    """Raise unless these are examples.

    Raises:
        TypeError: it is neither (X, y) nor an iterable of such batches.
        ValueError: X and y are not of one length.
    """
    if isinstance(data, tuple):
        check_batch(data, name)
    elif isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise TypeError(
            f"{name} is {_a(data)}, which holds single examples: give batches, for example "
            "torch.utils.data.DataLoader(…, batch_size=64)"
        )
    elif isinstance(data, Tensor | str | bytes | Mapping | nn.Module) or not (
        hasattr(data, "__iter__") or hasattr(data, "__getitem__")
    ):
        raise TypeError(
            f"{name} is {_a(data)}: give (inputs, targets), or an iterable of such "
            "batches, such as a DataLoader"
        )


def check_batch(found: Any, what: str = "a batch") -> tuple[Inputs, Tensor]:
    """The inputs and targets of a batch, or of a whole split.

    Raises:
        TypeError: it is no pair, or not of tensors.
        ValueError: inputs and targets are not of one number.
    """
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise TypeError(
            f"{what} is {_a(found)}: give (inputs, targets); put several inputs into "
            "a tuple, such as ((x1, x2), y), or a dict"
        )
    x, y = found
    if not isinstance(y, Tensor):
        raise TypeError(f"the targets of {what} are {_a(y)}: give a tensor")
    if isinstance(x, Mapping) and (other := [key for key in x if not isinstance(key, str)]):
        raise TypeError(
            f"the inputs of {what} have the key {other[0]!r}: give the names of arguments of the "
            "model's forward"
        )
    if not isinstance(x, Tensor | Mapping | list | tuple):
        raise TypeError(f"the inputs of {what} are {_a(x)}: give a tensor, or a tuple or dict")
    if not (parts := tensors(x)):
        raise ValueError(f"{what} has no inputs: give a tensor, or a tuple or a dict of them")
    for part in [*parts, y]:
        if not isinstance(part, Tensor):
            raise TypeError(f"among the inputs of {what} is {_a(part)}: give only tensors")
        if part.is_meta:
            raise ValueError(f"{what} is on the meta device, and so has no numbers: load the data")
        if not part.ndim or part.layout is not torch.strided or part.is_nested:
            raise ValueError(
                f"{what} has a tensor without dimensions, or one that is not dense: give dense "
                "tensors whose first dimension counts the examples"
            )
    for part in parts:
        if len(part) != len(y):
            raise ValueError(
                f"{what} has {len(part):,} inputs and {len(y):,} targets: give one target for "
                "each input"
            )
    return x, y


def check_loss(loss: Any) -> None:
    """Raise TypeError unless this is a loss function of outputs and targets."""
    if isinstance(loss, type):
        raise TypeError(f"loss is the class {loss.__name__}: give an instance, {loss.__name__}()")
    if not callable(loss):
        raise TypeError(
            f"loss is {_a(loss)}: give a function of the model's output and the "
            "targets, such as torch.nn.functional.cross_entropy"
        )


def batches(data: Data, model: nn.Module) -> Iterator[tuple[Inputs, Tensor]]:
    """Copies of the batches of some data, on the model's device and without a graph.

    Warns where all targets are one and the same class.

    Raises:
        TypeError: batches that are no pairs of inputs and targets.
        ValueError: no examples, other numbers of inputs and targets, or NaN or infinity
            among the inputs.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    count, classes = 0, set[int]()
    for batch in _cut(data):
        x, y = check_batch(batch)
        if not len(y):
            continue
        if any(part.is_floating_point() and not part.isfinite().all() for part in tensors(x)):
            raise ValueError("the data has NaN or infinite inputs: clean it first")
        count += len(y)
        if len(classes) < 2 and not (y.is_floating_point() or y.is_complex()) and y.numel():
            classes |= {int(y.min()), int(y.max())}
        # Copies, as a model may overwrite what it is given.
        yield (
            each(x, lambda part: part.detach().to(device, copy=True)),
            y.detach().to(device, copy=True),
        )
    if not count:
        raise ValueError("there are no examples: give at least one")
    if len(classes) == 1 and count > 1:
        warnings.warn(
            f"all {count} labels are {classes.pop()}: a loss on one class says little; shuffle "
            "the data before a part is taken",
            DataWarning,
            stacklevel=3,
        )


def example_losses(model: nn.Module, data: Data, loss: Loss) -> Tensor:
    """The loss of each example (N,), float64, with the model in evaluation mode.

    Args:
        loss: is mapped over the examples by ``torch.vmap``, as batches of one.

    Raises:
        ValueError: as :func:`batches`; or a model that returns something else than a tensor.
    """

    check_data(data)
    check_loss(loss)

    def one(output: Tensor, target: Tensor) -> Tensor:
        return loss(output.unsqueeze(0), target.unsqueeze(0))

    found = []
    with torch.no_grad(), evaluating(model):
        for x, y in batches(data, model):
            output = called(model, x)
            if not isinstance(output, Tensor):
                raise ValueError(
                    f"the model returns a {type(output).__name__}: wrap it in a module that "
                    "returns the tensor that the loss takes"
                )
            if len(output) != len(y):
                raise ValueError(
                    f"the model returns {tuple(output.shape)} for {len(y)} examples: its first "
                    "dimension must be that of the batch"
                )
            if loss is usual_loss:
                check_classes(output, y)
            try:
                losses = torch.vmap(one)(output, y).double()
            except RuntimeError as error:
                if not str(error).startswith("vmap"):
                    raise
                raise ValueError(
                    "the loss can't be computed for all examples at once by "
                    "torch.vmap: write it without if, item() and float() on tensors"
                ) from error
            if losses.ndim != 1:
                raise ValueError(
                    f"the loss of an example has shape {tuple(losses.shape[1:])}: return the mean "
                    "over the batch, one number"
                )
            found.append(losses)
    return torch.cat(found)


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
    return len(tensors(x)[0])


def tensors(x: Inputs) -> list[Tensor]:
    """The inputs as a list."""
    if isinstance(x, Tensor):
        return [x]
    return list(x.values()) if isinstance(x, Mapping) else list(x)


def each(x: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """The inputs with a function applied to each of them."""
    if isinstance(x, Tensor):
        return change(x)
    if isinstance(x, Mapping):
        return {name: change(part) for name, part in x.items()}
    return tuple(change(part) for part in x)


def _cut(data: Data) -> Iterable[Any]:
    if not isinstance(data, tuple):
        yield from data
        return
    X, y = data
    rows = _rows_at_once(X)
    for start in range(0, len(y), rows):
        part = slice(start, start + rows)
        yield each(X, lambda whole: whole[part]), y[part]


def _rows_at_once(X: Inputs) -> int:
    rows = CHUNK
    for part in tensors(X):
        most = NUMBERS if part.is_floating_point() else TOKENS
        rows = min(rows, most * len(part) // max(part.numel(), 1))
    return max(rows, 1)


def _a(found: Any) -> str:
    if isinstance(found, tuple | list):
        return f"a {type(found).__name__} of {len(found)}"
    return "None" if found is None else f"a {type(found).__name__}"


# Targets that cross entropy passes over, by PyTorch's default.
IGNORED = -100


def usual_loss(output: Any, target: Tensor) -> Tensor:
    """Cross entropy for classes, mean squared error for numbers; the mean over a batch.

    Args:
        output: of the model. For classes (B, …, C) or (B, C, …), or (B, …, 1) where there are
            two, whose logit it is; for numbers of the targets' shape.
        target: whole numbers (B, …) of any dtype, and booleans, are classes.

    Targets of −100 are no class and don't count, as in PyTorch.

    Raises:
        ValueError: an output that doesn't fit either.
    """
    if not isinstance(output, Tensor):
        raise ValueError(
            f"the model returns a {type(output).__name__}: wrap it in a module that returns the "
            "tensor which the loss is of"
        )
    if target.is_floating_point() or target.is_complex():
        if output.shape == target.shape and not target.is_complex():
            return F.mse_loss(output, target)
    elif output.shape[:-1] == target.shape:
        if output.shape[-1] == 1:
            return F.binary_cross_entropy_with_logits(output[..., 0], target.to(output.dtype))
        return F.cross_entropy(output.flatten(0, -2), target.flatten().long())
    elif output.ndim > 1 and output.shape[:1] + output.shape[2:] == target.shape:
        return F.cross_entropy(output, target.long())
    raise ValueError(
        f"there is no default loss for outputs {tuple(output.shape)} and "
        f"{target.dtype} targets {tuple(target.shape)}: give a loss"
    )


def check_classes(output: Any, target: Tensor) -> None:
    """Raise ValueError for a target that is no class of the model; apart, for ``torch.vmap``."""
    if not isinstance(output, Tensor) or target.is_floating_point() or target.is_complex():
        return
    binary = output.shape == (*target.shape, 1)
    if binary:
        classes = 2
    elif output.shape[:-1] == target.shape:
        classes = output.shape[-1]
    elif output.ndim > 1 and output.shape[:1] + output.shape[2:] == target.shape:
        classes = output.shape[1]
    else:
        return  # which no usual loss is of
    target = target.long()
    wrong = (target < 0) | (target >= classes)
    if not binary:
        wrong &= target != IGNORED
    if wrong.any():
        raise ValueError(
            f"target {int(target[wrong][0])} is outside the classes 0 to "
            f"{classes - 1} of the model's outputs: check the targets, or the model's last layer"
        )

"""Examples that rank reveal looks at: cut into batches, and what a model loses on them."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

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


def batches(data: Data, model: nn.Module) -> Iterator[tuple[Inputs, Tensor]]:
    """The batches of some data, on the model's device.

    Warns where all targets are one and the same class.

    Raises:
        ValueError: no examples, other numbers of inputs and targets, or NaN or infinity
            among the inputs.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    count, classes = 0, set[int]()
    for x, y in _cut(data):
        _check_sizes(x, y)
        if any(part.is_floating_point() and not part.isfinite().all() for part in tensors(x)):
            raise ValueError("the data has NaN or infinite inputs: clean it first")
        count += len(y)
        if len(classes) < 2 and not y.is_floating_point() and y.numel():
            classes |= {int(y.min()), int(y.max())}
        yield each(x, lambda part: part.to(device)), y.to(device)
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

    def one(output: Tensor, target: Tensor) -> Tensor:
        return loss(output.unsqueeze(0), target.unsqueeze(0))

    found = []
    with torch.no_grad(), evaluating(model):
        for x, y in batches(data, model):
            output = called(model, x)
            if not isinstance(output, Tensor):
                raise ValueError(
                    f"the model returns a {type(output).__name__}: wrap it in a module that "
                    "returns the tensor which the loss is of"
                )
            found.append(torch.vmap(one)(output, y).double())
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
    """What the model puts out for the inputs of a batch."""
    if isinstance(x, Tensor):
        return model(x)
    return model(**x) if isinstance(x, Mapping) else model(*x)


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


def _cut(data: Data) -> Iterable[tuple[Inputs, Tensor]]:
    if not isinstance(data, tuple):
        yield from data
        return
    X, y = data
    _check_sizes(X, y)
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


def _check_sizes(x: Inputs, y: Tensor) -> None:
    if not tensors(x):
        raise ValueError("a batch has no inputs: give a tensor, a tuple or a dict of them")
    if size(x) != len(y):
        raise ValueError(f"there are {size(x)} inputs and {len(y)} targets: give one of each")

"""Examples that rank reveal looks at: cut into batches, and what a model loses on them."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# A whole split, or batches of one (a DataLoader): inputs (B, …) and targets (B, …).
Data = tuple[Tensor, Tensor] | Iterable[tuple[Tensor, Tensor]]

# Of the model's output for a batch and its targets: the mean over the batch.
Loss = Callable[[Tensor, Tensor], Tensor]

# Rows at once of a split that is given whole: activations stay in the cache.
CHUNK = 512


def batches(data: Data, model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of some data, on the model's device.

    Warns where all targets are one and the same class.

    Raises:
        ValueError: no examples, other numbers of inputs and targets, or NaN or infinity
            among the inputs.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    count, classes = 0, set[int]()
    for x, y in _cut(data):
        if len(x) != len(y):
            raise ValueError(f"there are {len(x)} inputs and {len(y)} targets: give one of each")
        if x.is_floating_point() and not x.isfinite().all():
            raise ValueError("the data has NaN or infinite inputs: clean it first")
        count += len(x)
        if len(classes) < 2 and not y.is_floating_point() and y.numel():
            classes |= {int(y.min()), int(y.max())}
        yield x.to(device), y.to(device)
    if not count:
        raise ValueError("there are no examples: give at least one")
    if len(classes) == 1 and count > 1:
        warnings.warn(
            f"all {count} labels are {classes.pop()}: a loss on one class says little; shuffle "
            "the data before a part is taken",
            stacklevel=3,
        )


def example_losses(model: nn.Module, data: Data, loss: Loss) -> Tensor:
    """The loss of each example (N,), float64, with the model in evaluation mode.

    Args:
        loss: is mapped over the examples by ``torch.vmap``, as batches of one.

    Raises:
        ValueError: as :func:`batches`.
    """

    def one(output: Tensor, target: Tensor) -> Tensor:
        return loss(output.unsqueeze(0), target.unsqueeze(0))

    with torch.no_grad(), evaluating(model):
        found = [torch.vmap(one)(model(x), y).double() for x, y in batches(data, model)]
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


def _cut(data: Data) -> Iterable[tuple[Tensor, Tensor]]:
    if isinstance(data, tuple):
        X, y = data
        if len(X) != len(y):
            raise ValueError(f"there are {len(X)} inputs and {len(y)} targets: give one of each")
        return zip(X.split(CHUNK), y.split(CHUNK), strict=True)
    return data

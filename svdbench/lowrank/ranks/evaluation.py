"""The losses of a model, by batch and by example."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from svdbench.errors import out_of_memory
from svdbench.lowrank.losses import check_classes, usual_loss
from svdbench.lowrank.ranks.examples import (
    Data,
    Loss,
    Targets,
    batches,
    called,
    check_data,
    check_loss,
    each,
    evaluating,
    give_back,
    size,
    take,
    tensors,
)
from svdbench.lowrank.ranks.outputs import described, each_output, output_tensor, tensors_of

# What losses are compared of.
Unit = Literal["example", "batch"]


def takes_tensor(loss: Loss) -> bool:
    """Whether a loss is given the tensor in a model's output, and not what the model returns.

    Svdbench's own losses and PyTorch's are.
    """
    own = loss is usual_loss or hasattr(loss, "needs_teacher")
    return own or str(getattr(loss, "__module__", "")).split(".")[0] == "torch"


def loss_input(loss: Loss, output: Any) -> Any:
    """What a loss is given of a model's output; see :func:`takes_tensor`.

    Raises:
        ValueError: there is no such tensor.
    """
    return output_tensor(output) if takes_tensor(loss) else output


def batch_loss(loss: Loss, output: Any, y: Targets) -> Tensor:
    """The loss of a batch: one number, with its graph.

    Args:
        output: of the model, as it returns it.

    Raises:
        ValueError: a target that is no class of the model, or a loss that is no number.
    """
    output = loss_input(loss, output)
    if loss is usual_loss:
        _check_usual(output, y)
    value = loss(output, y)
    if not isinstance(value, Tensor) or value.numel() != 1:
        what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r}"
        raise ValueError(f"the loss of a batch is {what}: return its mean, a tensor of one number")
    return value


def example_losses(model: nn.Module, data: Data, loss: Loss) -> Tensor:
    """The loss of each example (N,), float64, with the model in evaluation mode.

    Args:
        loss: function of the model's output and the targets, the mean over a batch. It is applied
            to each example, by ``torch.vmap``, or one by one where that fails, as for a loss with
            ``if``.

    Raises:
        ValueError: as in :func:`svdbench.lowrank.ranks.examples.batches`; an output without a row
            for each example, or without a tensor for the loss.

    Example:
        >>> from torch import nn
        >>> net, X, y = nn.Linear(20, 4), torch.randn(64, 20), torch.randint(4, (64,))
        >>> example_losses(net, (X, y), nn.functional.cross_entropy).shape
        torch.Size([64])
    """
    return torch.cat([*_of_batches(model, data, loss, losses_of_examples)])


def batch_losses(model: nn.Module, data: Data, loss: Loss) -> Tensor:
    """The loss of each batch, float64, with the model in evaluation mode.

    For a loss that is no mean over examples, as a contrastive one.
    """
    found = _of_batches(model, data, loss, lambda loss, output, y, _: batch_loss(loss, output, y))
    return torch.stack([value.detach().double().reshape(()) for value in found])


def _of_batches(
    model: nn.Module, data: Data, loss: Loss, losses: Callable[[Loss, Any, Targets, int], Tensor]
) -> Iterator[Tensor]:
    """The losses of each batch: of the model's output, the targets and the number of examples."""
    check_data(data)
    check_loss(loss)
    with torch.no_grad(), evaluating(model):
        for x, y in batches(data, model):
            yield losses(loss, called(model, x), y, size(x))
            give_back()


def losses_of(model: nn.Module, data: Data, loss: Loss, unit: Unit) -> Tensor:
    """The losses of examples, or of batches, by the unit that is compared."""
    return (batch_losses if unit == "batch" else example_losses)(model, data, loss)


def losses_of_examples(loss: Loss, output: Any, y: Targets, count: int) -> Tensor:
    """The losses (B,) of the examples of a batch, float64, by what the model returns for it."""
    output = loss_input(loss, output)
    parts = [part for part in tensors_of(output) if part.ndim and len(part) == count]
    first = output if isinstance(output, Tensor) else None
    if not parts or (first is not None and first is not parts[0]):
        raise ValueError(
            f"the model returns {described(output)} for {count} examples: its first dimension must "
            "be that of the batch"
        )
    if loss is usual_loss:
        _check_usual(output, y)
    try:
        losses = _mapped(loss, output, y, count)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        rows = (slice(i, i + 1) for i in range(count))
        losses = torch.stack([loss(_row(output, row, count), take(y, row)) for row in rows])
    losses = losses.double()
    if losses.ndim == 2 and losses.shape[1] == 1:
        losses = losses.squeeze(1)
    if losses.ndim != 1:
        raise ValueError(
            f"the loss of an example has shape {tuple(losses.shape[1:])}: return the mean "
            "over the batch, one number"
        )
    return losses


def _row(output: Any, row: slice, count: int) -> Any:
    """The output for one example, as that of a batch of one."""
    return each_output(output, lambda part: part[row] if _of_batch(part, count) else part)


def _of_batch(part: Tensor, count: int) -> bool:
    return part.ndim > 0 and len(part) == count


def _mapped(loss: Loss, output: Any, y: Targets, count: int) -> Tensor:
    """As a loop over the examples, by ``torch.vmap``."""
    outputs = [part for part in tensors_of(output) if _of_batch(part, count)]

    def one(parts: list[Tensor], target: Targets) -> Tensor:
        rest = iter(parts)
        row = each_output(output, lambda p: next(rest)[None] if _of_batch(p, count) else p)
        return loss(row, each(target, lambda part: part.unsqueeze(0)))

    if y is None:
        return torch.vmap(one, (0, None))(outputs, None)
    return torch.vmap(one)(outputs, y)


def _check_usual(output: Any, y: Targets) -> None:
    """Raise ValueError for targets that the usual loss is not of."""
    if not isinstance(y, Tensor):
        what = "no targets" if not tensors(y) else f"targets in a {type(y).__name__}"
        raise ValueError(f"there is no default loss for {what}: give a loss")
    check_classes(output, y)

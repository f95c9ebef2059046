"""Fine-tuning of a compressed model, to recover what compression lost."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.lowrank.ranks.evaluation import Unit, batch_loss, losses_of
from svdbench.lowrank.ranks.examples import (
    Data,
    Loss,
    batches,
    called,
    evaluating,
    size,
    take,
    whole,
)
from svdbench.lowrank.ranks.moments import NO_GRADIENT


def finetune(
    model: nn.Module,
    data: Data,
    loss: Loss,
    *,
    search: Data,
    epochs: int = 1,
    lr: float = 1e-4,
    batch_size: int = 64,
    seed: int = 0,
    unit: Unit = "example",
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> list[float]:
    """Train all parameters with AdamW, and keep the best epoch.

    Args:
        model: the model, trained in place, in training mode.
        data: (X, y), split into new random batches in every epoch; or batches, in their order.
        loss: the mean over a batch.
        search: examples for choosing the best epoch, separate from ``data``; the model before the
            first epoch is also a candidate.
        lr: constant learning rate.
        batch_size: of (X, y).
        seed: seed of the order and of torch, for example for dropout; torch's generators are
            restored.
        unit: "batch" for a loss that is not a mean over examples.
        on_epoch: called with each epoch's number, 0 before the first, and its mean loss.

    Returns:
        The mean loss on ``search`` before the first epoch and after each.

    Raises:
        ValueError: weights in half precision, in which small steps are lost to rounding; no
            parameter that requires a gradient.
    """
    parameters = [each for each in model.parameters() if each.requires_grad]
    if not parameters:
        raise ValueError("no parameter requires a gradient: there is nothing to fine-tune")
    for each in parameters:
        if each.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"fine-tuning in {each.dtype} loses its steps to rounding: use float32"
            )
    devices = {each.device for each in parameters if each.device.type == "cuda"}
    optimizer = torch.optim.AdamW(parameters, lr)
    generator = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    lowest, best = math.inf, dict[str, Tensor]()
    with torch.random.fork_rng(list(devices)):
        torch.manual_seed(seed)
        for epoch in range(epochs + 1):
            if epoch:
                _train(model, data, loss, optimizer, batch_size, generator)
            losses.append(float(losses_of(model, search, loss, unit).mean()))
            on_epoch(epoch, losses[-1])
            if not epoch or losses[-1] < lowest:
                lowest = losses[-1]
                best = {name: each.detach().clone() for name, each in model.state_dict().items()}
    model.load_state_dict(best)
    return losses


def _train(
    model: nn.Module,
    data: Data,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    batch_size: int,
    generator: torch.Generator,
) -> None:
    with evaluating(model):  # afterwards each module is in its own mode again
        model.train()
        for x, y in batches(_epoch(data, batch_size, generator), model):
            optimizer.zero_grad()
            value = batch_loss(loss, called(model, x), y)
            if not value.requires_grad:
                raise ValueError(NO_GRADIENT)
            value.backward()
            optimizer.step()
    optimizer.zero_grad()


def _epoch(data: Data, batch_size: int, generator: torch.Generator) -> Iterator[Any]:
    split = whole(data)
    if split is None:
        yield from data
        return
    X, y = split
    for rows in torch.randperm(size(X), generator=generator).split(batch_size):
        yield take(X, rows), take(y, rows)

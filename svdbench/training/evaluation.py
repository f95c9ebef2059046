"""Scores of a model on a task, the spectrum of its weight, and the gradients of its states."""

from dataclasses import dataclass

import torch
from torch import Tensor

from svdbench.models.base import SequenceModel
from svdbench.tasks.base import Batch, Task

from .parallel import ALONE, Ranks

# Numbers in the states of one part of a set: 128 MiB in float32.
PART = 2**25


@dataclass(frozen=True)
class TaskScores:
    """Of a set: the mean loss, in the task's unit, and the accuracy, a fraction."""

    loss: float
    accuracy: float | None


@torch.no_grad()
def evaluate(
    model: SequenceModel, task: Task, data: Batch, device: torch.device, ranks: Ranks = ALONE
) -> TaskScores:
    """The scores of ``model`` on a set x (T, N, input_size), y; in parts, to bound memory.

    Of several processes each has its share of the set, and all get the scores.
    """
    x, y = ranks.part(task, data)
    size = max(1, PART // (x.shape[0] * model.state_size))
    training = model.training
    model.eval()
    sums: dict[str, float] = {}
    for x_part, y_part in task.split(x, y, size) if x.shape[1] else ():
        x_part, y_part = x_part.to(device), y_part.to(device)
        outputs = model.last(x_part) if task.at_end else model(x_part)
        found = {"loss": task.loss(outputs, y_part).item(), **task.metrics(outputs, y_part)}
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + value * x_part.shape[1]
    model.train(training)
    sequences = data[0].shape[1]
    means = {name: total / sequences for name, total in ranks.add(sums).items()}
    return TaskScores(means["loss"], means.get("accuracy"))


@dataclass(frozen=True)
class WeightSpectrum:
    """The extreme singular values of the recurrent weight, and how far its promise is broken."""

    sigma_min: float | None = None
    sigma_max: float | None = None
    promise: float | None = None


@torch.no_grad()
def spectrum(model: SequenceModel) -> WeightSpectrum:
    """From the factors where the model knows them, from W itself otherwise."""
    sigma = model.sigma()
    if sigma is None:
        W = model.recurrent_weight()
        if W is not None and W.isfinite().all():
            sigma = torch.linalg.svdvals(W)
    if sigma is None:
        return WeightSpectrum(promise=model.promise())
    return WeightSpectrum(sigma.min().item(), sigma.max().item(), model.promise())


def state_gradient_norms(
    model: SequenceModel, task: Task, data: Batch, device: torch.device | str = "cpu"
) -> Tensor:
    """‖∂L/∂h_t‖ for every t, (T,), by way of all later states.

    With L the loss of one sequence, this is the root mean square over the sequences of
    ``data``, so that their number doesn't matter. An LSTM's cells are other states than
    h_t: what reaches the loss by way of the cells alone is not in it.

    The gradients come from the states one by one (``model.unrolled``), so autograd has each
    whole.
    """
    x, y = (tensor.to(device) for tensor in data)
    with torch.enable_grad():
        states = model.unrolled(x)
        outputs = model.readout(states[-1] if task.at_end else torch.stack(states))
        gradients = torch.autograd.grad(task.loss(outputs, y), states)
    # The loss is a mean over B sequences: a sequence's own gradient is B times its part.
    per_sequence = x.shape[1] * torch.stack(gradients).double().norm(dim=-1)
    return per_sequence.square().mean(1).sqrt()

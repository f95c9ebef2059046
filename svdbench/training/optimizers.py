"""From what a configuration says of an optimiser to torch's own, with two learning rates."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from svdbench import schemas
from svdbench.models.base import SequenceModel


def build(model: SequenceModel, config: schemas.Optimizer) -> Optimizer:
    """The optimiser of the parameters of ``model``: the orthogonal ones with their own rate.

    Those that the model moves itself are left out. Weight decay is for the others alone:
    the length of a reflector means nothing, and an orthogonal matrix has no size to lose.
    """
    parameters = model.parameter_groups()
    groups: list[dict[str, Any]] = [
        {"params": parameters["other"], "lr": config.lr, "weight_decay": config.weight_decay}
    ]
    if parameters["orthogonal"] and not model.own_step:
        groups.append({"params": parameters["orthogonal"], "lr": orthogonal_lr(config)})
    return _of_kind(groups, config)


def alike(network: nn.Module, config: schemas.Optimizer) -> Optimizer:
    """The optimiser of all parameters of any network, fused where torch has that."""
    group = {
        "params": list(network.parameters()),
        "lr": config.lr,
        "weight_decay": config.weight_decay,
    }
    return _of_kind([group], config, fused=True)


def orthogonal_lr(config: schemas.Optimizer) -> float:
    """The learning rate of the recurrent weight's parameters."""
    return config.lr if config.orthogonal_lr is None else config.orthogonal_lr


def _of_kind(
    groups: list[dict[str, Any]], config: schemas.Optimizer, fused: bool | None = None
) -> Optimizer:
    match config:
        case schemas.Adam():
            beta1, beta2 = config.betas
            return torch.optim.Adam(groups, betas=(beta1, beta2), eps=config.eps, fused=fused)
        case schemas.RMSprop():
            return torch.optim.RMSprop(
                groups, alpha=config.alpha, momentum=config.momentum, eps=config.eps
            )
        case schemas.SGD():
            return torch.optim.SGD(groups, momentum=config.momentum, fused=fused)
    raise ValueError(f"no optimiser is called {config.name!r}: choose adam, rmsprop or sgd")


def factor(schedule: schemas.Schedule, step: int, steps: int) -> float:
    """What the learning rates are multiplied by in step ``step``, counted from 0, of ``steps``."""
    done = min(step / steps, 1.0)
    match schedule:
        case schemas.Schedule.linear:
            return 1 - done
        case schemas.Schedule.cosine:
            return (1 + math.cos(math.pi * done)) / 2
    return 1.0


def clipped_norm(parameters: list[nn.Parameter], clip: float | None) -> float:
    """The norm of all gradients together, before they are scaled to ``clip`` at most."""
    limit = math.inf if clip is None else clip
    return float(nn.utils.clip_grad_norm_(parameters, limit))

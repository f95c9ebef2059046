"""The multiplications that a step of training makes, counted as it makes them."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from svdbench.classification import Loss
from svdbench.lowrank import LowRankLinear
from svdbench.lowrank.sizes import bytes_of, numbers_of


def multiplications(network: nn.Module, X: Tensor, y: Tensor, loss: Loss) -> float:
    """Of a step forward and backward, in products of matrices and convolutions, per example.

    No product is counted that isn't made: the first layer has no gradient of its input to
    find, unless X asks for one. Nor are those with the zeros that factors are padded with.

    Args:
        network: stays as it is.
        X, y: a batch (B, …), (B,).
        loss: of outputs and labels.
    """
    copy = deepcopy(network).train()
    for module in copy.modules():
        if isinstance(module, LowRankLinear):
            module.pads = False
    with FlopCounterMode(display=False) as counter:
        loss(copy(X.detach().requires_grad_(X.requires_grad)), y).backward()
    return counter.get_total_flops() / 2 / len(X)


def ceiling(dense: float, factored: float, phi: float) -> float:
    """How many times faster a training could be that does nothing but multiply.

    Args:
        dense, factored: multiplications of a step.
        phi: the share of dense steps.
    """
    return dense / (phi * dense + (1 - phi) * factored)


@torch.no_grad()
def size_of(network: nn.Module) -> dict[str, int]:
    """Numbers, multiply-adds of an example with weights of linear layers, and bytes."""
    return {
        "n_params": numbers_of(network),
        "macs": sum(p.numel() for p in network.parameters() if p.ndim == 2),
        "bytes": bytes_of(network),
    }

"""What a training costs besides time: multiplications, numbers and bytes."""

from collections.abc import Sequence
from copy import deepcopy
from math import fsum

from torch import Tensor, nn
from torch.optim import Optimizer

from svdbench.lowrank import LowRankLinear
from svdbench.lowrank.costs import multiply_adds, plain_products
from svdbench.lowrank.layers.base import bytes_of, numbers_of
from svdbench.side_by_side.networks import Loss


def multiplications(network: nn.Module, X: Tensor, y: Tensor, loss: Loss) -> float:
    """Of a step forward and backward, in products of matrices and convolutions, per example.

    No product is counted that isn't made: the first layer has no gradient of its input to
    find, unless X asks for one. Nor are those with the zeros that factors are padded with.
    """
    copy = deepcopy(network).train()
    for module in copy.modules():
        if isinstance(module, LowRankLinear):
            module.pads = False
    with plain_products() as counter:
        loss(copy(X.detach().requires_grad_(X.requires_grad)), y).backward()
    return counter.get_total_flops() / 2 / len(X)


def ceiling(dense: float, factored: float, phi: float) -> float:
    """How many times faster a training could be that does nothing but multiply."""
    return dense / (phi * dense + (1 - phi) * factored)


def size_of(network: nn.Module, X: Tensor) -> dict[str, int]:
    """Numbers, multiply-adds of a forward pass of the one example X (1, …), and bytes."""
    return {
        "n_params": numbers_of(network),
        "macs": multiply_adds(network, X),
        "bytes": bytes_of(network),
    }


def weighted(costs: Sequence[float], shares: Sequence[float]) -> float:
    """The mean of costs by shares that add up to 1."""
    return fsum(cost * share for cost, share in zip(costs, shares, strict=True))


def training_bytes(network: nn.Module, optimizer: Optimizer) -> int:
    """Bytes of parameters, buffers and the optimiser's state; gradients are not counted."""
    held = [*network.parameters(), *network.buffers()]
    for state in optimizer.state.values():
        held += [value for value in state.values() if isinstance(value, Tensor)]
    return sum(value.numel() * value.element_size() for value in held)

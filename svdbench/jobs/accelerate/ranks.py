"""Ranks from α in its two meanings, and the multiplications that they save."""

from collections.abc import Sequence
from copy import deepcopy
from math import floor

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from svdbench.lowrank import LowRankLinear
from svdbench.lowrank.layers.base import bytes_of, numbers_of
from svdbench.lowrank.layers.factor import RankRule, Weight
from svdbench.members import refuse_unknown
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
    with FlopCounterMode(display=False) as counter:
        loss(copy(X.detach().requires_grad_(X.requires_grad)), y).backward()
    return counter.get_total_flops() / 2 / len(X)


def ceiling(dense: float, factored: float, phi: float) -> float:
    """How many times faster a training could be that does nothing but multiply."""
    return dense / (phi * dense + (1 - phi) * factored)


@torch.no_grad()
def size_of(network: nn.Module) -> dict[str, int]:
    """Numbers, multiply-adds of an example with weights of linear layers, and bytes."""
    return {
        "n_params": numbers_of(network),
        "macs": sum(p.numel() for p in network.parameters() if p.ndim == 2),
        "bytes": bytes_of(network),
    }


ALPHA_MEANINGS = ("code", "text")


def alpha_rank(alpha: float, rows: int, columns: int, meaning: str = "code") -> int:
    """The rank l of a weight (rows, columns), 1 at least.

    * "text": l = ⌊α·min(m, n)⌋, as the report on SVD-DNN says in words. At α = ½, factors of
      a square matrix have as many numbers as the matrix.
    * "code": l = ⌊α·⌊mn/(m + n)⌋⌋, as its program has it: α of the rank at which the factors
      would have as many numbers, so that a layer always saves, about 1 − α.

    Source: Sarnayak, Mohanty, Temkar, "Deep Neural Networks and Accelerating them using
    Singular Value Decomposition", 2020, §3.3.5.
    """
    refuse_unknown("meaning of alpha", [meaning], ALPHA_MEANINGS)
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha is {alpha}: give a number above 0 and at most 1")
    whole = min(rows, columns) if meaning == "text" else rows * columns // (rows + columns)
    return max(1, floor(alpha * whole))


def alpha_rule(alpha: float, meaning: str = "code") -> RankRule:
    alpha_rank(alpha, 1, 1, meaning)

    def rule(weight: Weight) -> int:
        return alpha_rank(alpha, weight.rows, weight.columns, meaning)

    return rule


def layer_rule(ranks: Sequence[int | None], weights: Sequence[str]) -> RankRule:
    """The rule that gives each weight, in the order of the layers, a rank of its own."""
    if len(ranks) != len(weights):
        raise ValueError(
            f"there are {len(ranks)} ranks for {len(weights)} weights: give one for "
            "each, or none to leave a layer dense"
        )
    by_name = dict(zip(weights, ranks, strict=True))
    return lambda weight: by_name[weight.name]

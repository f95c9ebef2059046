"""What an arm is given and what it costs: ranks, multiplications, bytes, and steps by a budget."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from math import floor, fsum

from torch import Tensor, nn
from torch.optim import Optimizer

from svdbench.lowrank import LowRankLinear
from svdbench.lowrank.costs import multiply_adds, plain_products
from svdbench.lowrank.layers.base import bytes_of, numbers_of
from svdbench.lowrank.layers.factor import RankRule, Weight
from svdbench.members import refuse_unknown
from svdbench.side_by_side.networks import Loss

ALPHA_MEANINGS = ("code", "text")


def alpha_rank(alpha: float, rows: int, columns: int, meaning: str = "code") -> int:
    """The rank l of a weight (rows, columns), 1 at least.

    * "text": l = ⌊α·min(m, n)⌋, as Sarnayak et al. 2020 say in words. At α = ½, factors of
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


@dataclass
class StepSchedule:
    """The steps of an arm, stage by stage.

    Args:
        budget: in the unit of ``costs``: steps, multiplications or seconds.
        changes: parts of the budget after which the arm changes, ascending.
        costs: of a step in each stage, of which there is one more than changes.

    Attributes:
        ends: the steps after which each stage ends, the last with the training.

    Example:
        >>> StepSchedule(100, [0.1], [1, 1]).ends
        [10, 100]
        >>> StepSchedule(10.0, [0.1], [0.2, 0.05]).ends  # 1 s of steps of .2 s, 9 s of .05 s
        [5, 185]
    """

    budget: float
    changes: Sequence[float]
    costs: list[float]
    ends: list[int] = field(init=False)

    def __post_init__(self) -> None:
        parts = [0.0, *self.changes, 1.0]
        if any(after < before for before, after in pairwise(parts)):
            raise ValueError(
                f"the parts of the budget are {list(self.changes)}: give numbers from 0 to 1, "
                "ascending"
            )
        self.ends = []
        self._plan(0, 0.0)

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.ends[-1]

    @property
    def shares(self) -> list[float]:
        """The part of the steps that each stage has."""
        found = [(end - start) / self.steps for start, end in pairwise([0, *self.ends[:-1]])]
        return [*found, 1 - sum(found)] if self.steps else [0.0] * len(found) + [1.0]

    def spent(self, steps: int) -> float:
        """The part of the budget that the first steps cost."""
        cost, before = 0.0, 0
        for end, each in zip(self.ends, self.costs, strict=True):
            cost += max(0, min(steps, end) - before) * each
            before = end
        return cost / self.budget

    def steps_at(self, share: float) -> int:
        """The number of steps that cost a part of the budget, to the nearest."""
        left, before = share * self.budget, 0
        for end, each in zip(self.ends, self.costs, strict=True):
            if left < (end - before) * each:
                return before + round(left / each)
            left -= (end - before) * each
            before = end
        return self.steps

    def change_now(self, steps: int, cost: float) -> None:
        """Let the last stage end now, and another begin whose steps cost so much."""
        spent = self.spent(steps) * self.budget
        self.changes = [*self.changes, spent / self.budget]
        self.costs = [*self.costs, cost]
        self.ends[-1] = steps
        self._plan(steps, spent)

    def _plan(self, step: int, spent: float) -> None:
        for number in range(len(self.ends), len(self.costs)):
            share = self.changes[number] if number < len(self.changes) else 1.0
            before, cost = step, self.costs[number]
            step = max(before, before + round((share * self.budget - spent) / cost))
            spent += (step - before) * cost
            self.ends.append(step)

"""How many steps an arm has in each of its stages, by a budget of steps, products or seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise


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

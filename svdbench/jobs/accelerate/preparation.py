"""Before the seeds: what a step of each arm costs, its rivals, and its learning rate."""

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor

from svdbench.errors import UserError
from svdbench.jobs.accelerate import TrainingBudget
from svdbench.jobs.accelerate.costs import StepSchedule, weighted
from svdbench.jobs.accelerate.experiment import (
    DENSE,
    RIVAL,
    AccelerateArm,
    AccelerateExperiment,
    AccelerateSetting,
    drawn,
)
from svdbench.jobs.accelerate.rivals import (
    FEW,
    SHORT_S,
    Rival,
    distinct,
    interleaved,
    rivals_of,
)
from svdbench.jobs.accelerate.trained import StagedArm, endless, used_seconds
from svdbench.measure.clock import Clock
from svdbench.reporting.words import quantity
from svdbench.side_by_side.arms import Batches
from svdbench.side_by_side.families import NetworkFamily
from svdbench.side_by_side.networks import evaluate

# The part of the training set on which rates are chosen, and the most examples of it.
VALIDATED, MOST_VALIDATED = 1 / 6, 10_000
# How often a grid may be extended.
MOST_BEYOND = 6
Says = Callable[[float, str], None]


@dataclass
class Costs:
    """What a step of each arm costs, by its label, in each of its stages.

    Attributes:
        seconds: process seconds over the number of threads.
        products: multiplications of an example.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    products: dict[str, list[float]] = field(default_factory=dict)


class Preparation:
    """What is found out once, before the first seed, and kept in the run's journal.

    Args:
        given: the experiment.

    Attributes:
        settings: those of the experiment, then the smaller networks.
        costs: of the arms.
        rivals: what each smaller network is a rival of, by the label of its arm.
        lrs: the rate of each arm that has one of its own.
        search_s: the seconds that choosing the rates took.
    """

    def __init__(self, given: AccelerateExperiment, clock: Clock) -> None:
        self.given, self.clock = given, clock
        self.device = given.train[0].device
        self.settings = list(given.settings)
        self.costs = Costs()
        self.rivals: dict[str, list[Rival]] = {}
        self.lrs: dict[str, float] = {}
        self.search_s: float | None = None
        for setting in self.settings:
            self.costs.products[setting.label] = given.counted(setting, clock)

    # ---------------------------------------------------------------------- what is kept

    def memo(self) -> dict[str, Any]:
        return {
            "seconds": self.costs.seconds,
            "rivals": [r.record for own in self.rivals.values() for r in own],
            "lrs": self.lrs,
            "search_s": self.search_s,
        }

    def restore(self, memo: Mapping[str, Any]) -> None:
        self.costs.seconds = {k: list(map(float, v)) for k, v in memo["seconds"].items()}
        self.lrs = {name: float(rate) for name, rate in memo["lrs"].items()}
        self.search_s = memo["search_s"]
        self._add([Rival(float(r["share"]), r["kind"], r["of"]) for r in memo["rivals"]])

    # ---------------------------------------------------------------------- the calibration

    def calibrate(self, says: Says) -> None:
        """Time a step of every arm in each of its stages, all within the same minute."""
        says(0.0, "timing steps")
        self._time_all()
        if self.given.config.with_rivals:
            says(0.3, "finding smaller networks")
            self._find_rivals()
            self._time_all()  # once more, with them

    def _time_all(self) -> None:
        work = {
            (setting.label, stage): self._timed(setting, stage)
            for setting in self.settings
            for stage in range(len(self.costs.products[setting.label]))
        }
        final = self.given.config.budget_of is TrainingBudget.seconds  # else only of rivals
        found = interleaved(work) if final else interleaved(work, FEW, SHORT_S)
        self.costs.seconds = {
            setting.label: [own for (label, _), own in found.items() if label == setting.label]
            for setting in self.settings
        }

    def _find_rivals(self) -> None:
        given, dense = self.given, self._timed(self.settings[0], 0)
        labels = [s.label for s in self.settings if s.member is not None]
        times = {label: self.mean_seconds(label) for label in labels}
        products = {label: self.mean_products(label) for label in labels}

        def seconds(family: NetworkFamily) -> float:
            """Beside the dense network, as the machine may have changed meanwhile."""
            pair = {"own": self._timed(narrow(family, 1.0), 0), DENSE: dense}
            found = interleaved(pair, FEW, SHORT_S)
            return self.costs.seconds[DENSE][0] * found["own"] / found[DENSE]

        def counted(family: NetworkFamily) -> float:
            return given.counted(narrow(family, 1.0), self.clock)[0]

        self._add(list(rivals_of(given.family, times, products, seconds, counted)))

    def _add(self, rivals: list[Rival]) -> None:
        for share, family, own in distinct(self.given.family, rivals):
            setting = narrow(family, share)
            self.settings.append(setting)
            self.rivals[setting.label] = own
            self.costs.products[setting.label] = self.given.counted(setting, self.clock)

    def _timed(self, setting: AccelerateSetting, stage: int) -> Callable[[int], float]:
        """A network of an arm that trains so many steps, and says how long it took."""
        given = self.given
        arm = given.arm(setting, 0, drawn(given, setting, 0), budget=1e9)
        arm.advance(stage, self.clock)
        return partial(self._steps, arm, endless(self._batches(0)))

    def _steps(self, arm: StagedArm, batches: Iterator[tuple[Tensor, Tensor]], steps: int) -> float:
        before = used_seconds(self.device)
        arm.train_epoch(self._prepared(batches, steps), self.clock)
        return used_seconds(self.device) - before

    def _prepared(
        self, batches: Iterator[tuple[Tensor, Tensor]], steps: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for X, y in (next(batches) for _ in range(steps)):
            yield (X.detach().requires_grad_() if self.given.config.input_gradient else X), y

    def _batches(self, seed: int) -> Batches:
        given = self.given
        return Batches(*given.train, given.batch_size, seed, given.config.shuffle)

    # ---------------------------------------------------------------------- the budget

    def mean_seconds(self, label: str) -> float:
        """The mean seconds of a step over the whole training of an arm."""
        return weighted(self.costs.seconds[label], self._shares(label))

    def mean_products(self, label: str) -> float:
        """The mean multiplications of a step over the whole training, of an example."""
        return weighted(self.costs.products[label], self._shares(label))

    def _shares(self, label: str) -> list[float]:
        """The part of its steps that an arm spends in each of its stages."""
        setting = next(s for s in self.settings if s.label == label)
        return self.arm(setting, 0).schedule.shares

    def arm(self, setting: AccelerateSetting, seed: int, lr: float | None = None) -> AccelerateArm:
        """An arm with its budget and its rate, about to begin."""
        given, label = self.given, setting.label
        budget, costs = self._budget(label)
        arm = given.arm(
            setting,
            seed,
            drawn(given, setting, seed),
            budget=budget,
            costs=costs,
            lr=self.lrs.get(label) if lr is None else lr,
            cost=self._cost_now,
        )
        if arm.schedule.steps < given.epochs:
            raise UserError(_too_few(arm, given.epochs, given.config.budget_of))
        return arm

    def _budget(self, label: str) -> tuple[float, list[float] | None]:
        given, config = self.given, self.given.config
        steps = given.epochs * given.batches
        if config.budget_of is TrainingBudget.seconds:
            assert config.budget_s is not None
            return config.budget_s, self.costs.seconds[label]
        if config.budget_of is TrainingBudget.multiplications:
            return steps * self.costs.products[DENSE][0], self.costs.products[label]
        return steps, None

    def _cost_now(self, arm: StagedArm) -> float:
        """The cost of a step of an arm that has just changed, at a time not known before."""
        products = self.given.multiplications(arm.network)
        arm.later_products.append(products)
        if self.given.config.budget_of is TrainingBudget.steps:
            return 1.0
        if self.given.config.budget_of is TrainingBudget.multiplications:
            return products
        own = StagedArm(
            arm.name,
            deepcopy(arm.network),
            arm.make,
            arm.loss,
            method=None,
            plan=arm.plan,
            schedule=StepSchedule(1e9, (), [1.0]),
            execution=self.given.execution,
        )
        work: dict[str, Callable[[int], float]] = {
            "own": partial(self._steps, own, endless(self._batches(0))),
            DENSE: self._timed(self.settings[0], 0),
        }
        found = interleaved(work)
        return self.costs.seconds[DENSE][0] * found["own"] / found[DENSE]

    # ---------------------------------------------------------------------- the rates

    def choose_rates(self, says: Says) -> None:
        """For each arm the rate with the lowest validation loss, by one training for each."""
        began = used_seconds(self.device)
        rates = self.given.config.lrs
        assert rates is not None
        for number, setting in enumerate(self.settings):
            says(number / len(self.settings), f"rates of {setting.label}")
            self.lrs[setting.label] = best_rate(rates, partial(self._validated, setting))
        self.search_s = used_seconds(self.device) - began

    def _validated(self, setting: AccelerateSetting, lr: float) -> float:
        """The loss on held-out examples of a training with a rate; infinite if it diverges."""
        given = self.given
        X, y = given.train
        held = min(MOST_VALIDATED, max(1, round(VALIDATED * len(X))))
        order = torch.randperm(len(X), generator=torch.Generator().manual_seed(len(X)))
        order = order.to(X.device)
        kept, out = order[held:].sort().values, order[:held].sort().values
        batches = Batches(
            X[kept], y[kept], given.batch_size, given.config.seed, given.config.shuffle
        )
        arm = self.arm(setting, given.config.seed, lr)
        rounds = given.epochs
        for number in range(rounds):
            some = arm.round(batches, (number + 1) / rounds)
            if arm.train(some, self.clock) is None or arm.status != "ok":
                return math.inf
        loss = evaluate(arm.dense(), X[out], y[out], arm.loss).loss
        return loss if math.isfinite(loss) else math.inf


def _too_few(arm: StagedArm, rounds: int, budget: TrainingBudget) -> str:
    """Why an arm has fewer steps than rounds, each of which has one at least."""
    steps = f"{arm.name} has {quantity(arm.schedule.steps, 'step')} in {quantity(rounds, 'round')}"
    if budget is TrainingBudget.seconds:
        least = f"{rounds * max(arm.schedule.costs):.2g}"
        return f"budget_s is {arm.schedule.budget:g}, and {steps}: give {least} seconds at least"
    return f"at equal {budget.value} {steps}: give a smaller batch_size"


def narrow(family: NetworkFamily, share: float) -> AccelerateSetting:
    """A smaller dense network as an arm."""
    return AccelerateSetting(RIVAL, phi=None, family=family, share=share)


def best_rate(rates: list[float], loss_of: Callable[[float], float]) -> float:
    """The rate with the lowest loss. While that is at an end of the grid, the grid is extended.

    Each extension is by the ratio of the two rates at that end, or by 2 for a single rate. A rate
    that diverges has an infinite loss; if all do, the grid is extended downwards.

    Args:
        rates: ascending.

    Example:
        >>> best_rate([0.1, 0.2], lambda rate: abs(rate - 0.7))
        0.8
    """
    known = {rate: loss_of(rate) for rate in rates}
    up = rates[-1] / rates[-2] if len(rates) > 1 else 2.0
    down = rates[1] / rates[0] if len(rates) > 1 else 2.0
    for beyond in count(1):
        best = min(known, key=lambda rate: (known[rate], rate))
        if beyond > MOST_BEYOND:
            return best
        if best == max(known) and known[best] < math.inf:
            further = best * up
        elif best == min(known):
            further = best / down
        else:
            return best
        known[further] = loss_of(further)
    raise AssertionError  # the loop above has no end

"""What ``svdbench rank-reveal`` looks at: a network that it trains, or one that is given."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.config.base import Dtype
from svdbench.datasets.base import hold_out
from svdbench.errors import UserError, as_user_error
from svdbench.jobs.rank_reveal import RankReveal
from svdbench.lowrank.ranks.curvature import needs_teacher
from svdbench.lowrank.ranks.evaluation import Unit, losses_of
from svdbench.lowrank.ranks.examples import Data, Loss, check_batch, size, take
from svdbench.lowrank.ranks.outputs import with_teacher
from svdbench.lowrank.trial import try_batch
from svdbench.measure.clock import clock_of
from svdbench.running.session import device_of
from svdbench.side_by_side import session as side_by_side
from svdbench.side_by_side.arms import Arm, Batches
from svdbench.side_by_side.networks import evaluate
from svdbench.side_by_side.problems import problem_of
from svdbench.training.learner import network_optimizer
from svdbench.user_code import user_code
from svdbench.user_models.model import configured_model, named_loss

HIDDEN = (512, 256)
MOST_SEARCHED = 0.2  # of the training examples

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class TestScores:
    """Scores of a network on the test examples: the loss of each (N,), and the accuracy."""

    losses: Tensor
    accuracy: float | None

    @property
    def loss(self) -> float:
        return float(self.losses.mean())


@dataclass(frozen=True)
class RevealSubject:
    """A network, and examples of four kinds.

    Attributes:
        model: in evaluation mode.
        loss: the mean over a batch.
        calibration: for statistics.
        search: to choose ranks by; for a data set, not trained on.
        curves: some of ``search``.
        test: looked at when all is chosen.
        labelled: there is a class for each example.
        unit: what losses are compared of.
    """

    model: nn.Module
    loss: Loss
    calibration: Data
    search: Data
    curves: Data
    test: Data
    labelled: bool
    unit: Unit = "example"

    def losses(self, model: nn.Module, data: Data) -> Tensor:
        """The losses of a model on some of these examples, one for each unit."""
        return losses_of(model, data, self.loss, self.unit)

    def judge(self, model: nn.Module) -> TestScores:
        losses = self.losses(model, self.test).cpu()
        accuracy = None
        if self.labelled and isinstance(self.test, tuple):
            X, y = self.test
            accuracy = evaluate(model, X, y, self.loss).accuracy
        return TestScores(losses, accuracy)

    def batch(self, count: int) -> tuple[Any, int]:
        """Inputs of so many test examples, and how many; of batches, the first as it is."""
        if isinstance(self.test, tuple) and isinstance(self.test[0], Tensor):
            X = self.test[0]
            return X[torch.arange(count, device=X.device) % len(X)], count
        given = first(self.test, count) if isinstance(self.test, tuple) else next(iter(self.test))
        x, _ = check_batch(given)
        return x, size(x)


class TrainedSubject(side_by_side.Experiment[RankReveal, None]):
    """A network for a data set, trained once from each seed; some examples are kept out."""

    usual_epochs, least_steps = 3, 400

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around all that calls the network and its examples: mistakes in one line."""
        with as_user_error():
            yield

    @property
    def options(self) -> dict[str, Any]:
        own = {"examples": asdict(self.config.examples), "batch_size": self.batch_size}
        return super().options | own

    def subject(self, seed: int, on_progress: Progress) -> RevealSubject:
        """Train from a seed, as its own batches come."""
        config, (X, y) = self.config, self.train
        part = min(MOST_SEARCHED, config.examples.search / len(X))
        kept, held = hold_out(len(X), part)
        if not len(held):
            raise UserError(f"{config.data.name} has {len(X)} examples, too few to hold some out")
        own = X[kept], y[kept]
        torch.manual_seed(seed)
        network = self.network()
        optimizer = network_optimizer(network, config.optimizer)
        arm = Arm("", network, optimizer, self.family.loss)
        clock = clock_of(X.device)
        batches = Batches(*own, self.batch_size, seed, config.shuffle)
        for epoch in range(self.epochs):
            on_progress(epoch / self.epochs, f"training: epoch {epoch + 1}/{self.epochs}")
            scores = arm.train_epoch(batches.epoch(epoch), clock)
            if not math.isfinite(scores.loss):
                raise UserError(
                    f"the loss of seed {seed} is {scores.loss} after epoch {epoch + 1}: lower lr"
                )
        search = X[held], y[held]
        few = torch.randperm(len(kept))[: config.examples.calibration].to(X.device)
        return RevealSubject(
            network.eval(),
            arm.loss,
            (own[0][few], own[1][few]),
            search,
            first(search, config.examples.curves),
            self.test,
            labelled=True,
        )


@dataclass(frozen=True)
class UserSubject:
    """A model of the user's own, as it is.

    Attributes:
        build: the function that made it.
        notes: lines about its numbers.
    """

    given: RevealSubject
    build: str
    notes: tuple[str, ...]

    def watching(self) -> AbstractContextManager[None]:
        """Around all that calls the model and its examples: mistakes in one line."""
        return user_code(self.build)

    def subject(self, seed: int, on_progress: Progress) -> RevealSubject:
        return self.given


def trained_subject(config: RankReveal) -> TrainedSubject:
    return TrainedSubject(config, [], problem_of(config, HIDDEN))


def user_subject(config: RankReveal) -> UserSubject:
    assert config.model.build is not None
    if config.model.loader is None:
        raise UserError(
            f"{config.model.build} needs examples: name a function that returns them, "
            "such as --data my_net:loader"
        )
    loss = None if config.loss is None else named_loss(config.loss)
    found = configured_model(
        config.model,
        device=device_of(config),
        dtype=None if config.dtype is Dtype.float32 else getattr(torch, config.dtype.value),
        seed=config.seed,
    )
    assert found.splits is not None
    misfit = f"{config.model.build} does not work with {config.model.loader}"
    with user_code(config.model.build, misfit):
        judged = try_batch(
            found.model,
            found.splits,
            loss=loss,
            distill=config.distill,
            temperature=config.temperature,
            backward=config.kind == "kronecker",
        )
        splits = judged.of(found.splits)
        calibration, search, test = splits.calibration, splits.search, splits.held_out
        if needs_teacher(judged.loss):
            search, test = (with_teacher(part, found.model) for part in (search, test))
        subject = RevealSubject(
            found.model,
            judged.loss,
            calibration,
            search,
            first(search, config.examples.curves),
            test,
            labelled=False,
            unit=judged.unit,
        )
        subject.losses(subject.model, first(subject.search, 1))
    notes = [*found.notes, f"loss: {judged.name}", *filter(None, [judged.note])]
    return UserSubject(subject, config.model.build, tuple(notes))


def first(data: Data, count: int) -> Data:
    """The first examples; of batches, as many whole ones as have so many, at least one."""
    if isinstance(data, tuple):
        x, y = data
        rows = torch.arange(min(count, size(x)))
        return take(x, rows), take(y, rows)
    found: list[Any] = []
    for batch in data:
        found.append(batch)
        if sum(size(check_batch(each)[0]) for each in found) >= count:
            break
    return found

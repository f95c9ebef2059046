"""Steps and evaluations of a training, until there is a reason to stop.

Time is read from a clock that is passed in. ``elapsed_s`` is training alone: batches, forward,
backward and the optimiser's step. The limit of minutes includes evaluations.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from svdbench.errors import UserError
from svdbench.measure.clock import Clock
from svdbench.measure.plan import failure
from svdbench.reporting.words import quantity
from svdbench.tasks.base import Batch, Task

from . import checkpoint
from .evaluation import TaskScores, WeightSpectrum, evaluate, spectrum
from .learner import Diverged, Learner
from .progress import Evaluation, LengthTest, Limits, StepProgress, TrainingOutcome


class Loop:
    """Trains a learner within limits, and reports progress.

    Args:
        on_step: called after every step.
        on_evaluation: called with every evaluation, and whether it is the best so far;
            :meth:`state_dict` then has the state to save.
    """

    def __init__(
        self,
        learner: Learner,
        limits: Limits,
        clock: Clock,
        on_step: Callable[[StepProgress], None] = lambda tick: None,
        on_evaluation: Callable[[Evaluation, bool], None] = lambda point, best: None,
    ) -> None:
        self.learner = learner
        self.limits = limits
        self.clock = clock
        self.on_step = on_step
        self.on_evaluation = on_evaluation
        self.split, self.data = _watched(learner)
        self.elapsed_s = self.evaluation_s = 0.0
        self.last: Evaluation | None = None
        self.best: Evaluation | None = None
        self.best_weights: dict[str, Tensor] = {}
        self.tested: Evaluation | None = None
        self.lengths: tuple[LengthTest, ...] = ()

    def run(self) -> TrainingOutcome:
        """Train until a limit is reached, training fails, or someone presses ^C; then test.

        Raises:
            UserError: of a callback, or the other processes of several are gone.
            Exception: any failure in one process of several, as the others wait for it.
        """
        self._first_step, self._first_s = self.learner.step, self.elapsed_s
        # Minutes that a resumed training has used before.
        self._before_s = self.elapsed_s + self.evaluation_s if self.last else 0.0
        self.clock.sync()
        self._begin = self.clock.stamp()
        try:
            status, reason = self._train()
            if self.limits.test:
                self.tested = self._test()
                self.lengths = self._test_lengths()
        except Diverged as error:
            status, reason = "nan", self._why(error)
            self.last = Evaluation(
                step=error.step,
                epoch=self.learner.epoch,
                split=self.split,
                elapsed_s=self.elapsed_s,
                train_loss=error.loss,
                grad_norm=error.grad_norm,
            )
        except KeyboardInterrupt:
            status, reason = "interrupted", f"interrupted after step {self.learner.step:,}"
        except UserError:
            raise
        except Exception as error:
            if self.learner.ranks.size > 1:
                raise
            status, reason = failure(error)
        steps, seconds = self.learner.step - self._first_step, self.elapsed_s - self._first_s
        return TrainingOutcome(
            status=status,
            reason=reason,
            last=self.last,
            best=self.best,
            test=self.tested,
            elapsed_s=self.elapsed_s,
            evaluation_s=self.evaluation_s,
            steps_per_s=steps / seconds if steps and seconds > 0 else None,
            lengths=self.lengths,
        )

    def state_dict(self) -> dict[str, Any]:
        """The state to resume from: the learner's, the best so far, and time."""
        return {
            "learner": self.learner.state_dict(),
            "last": asdict(self.last) if self.last else None,
            "best": asdict(self.best) if self.best else None,
            "best_weights": self.best_weights,
            "elapsed_s": self.elapsed_s,
            "evaluation_s": self.evaluation_s,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`.

        Raises:
            ValueError: it is of another model, task or optimiser, or damaged. Nothing was
                changed then.
        """
        learner = self.learner
        for key in ("learner", "best", "best_weights", "elapsed_s", "evaluation_s"):
            if key not in state:
                raise ValueError(f"it has no {key}")
        learner.check(state["learner"])
        # Checkpoints once had no ``last``.
        last, best = (checkpoint.point(state.get(key), key) for key in ("last", "best"))
        own = learner.model.state_dict()
        checkpoint.weights(state["best_weights"], "best_weights", own if best else {})
        elapsed_s, evaluation_s = (
            checkpoint.seconds(state[key], key) for key in ("elapsed_s", "evaluation_s")
        )
        learner.load_state_dict(state["learner"])
        self.last, self.best, self.best_weights = last, best, state["best_weights"]
        self.elapsed_s, self.evaluation_s = elapsed_s, evaluation_s

    def _train(self) -> tuple[str, str]:
        limits, learner = self.limits, self.learner
        point = self.last or self._evaluate({})
        while True:
            if limits.target is not None and point.loss is not None and point.loss <= limits.target:
                return "target", f"the target was reached at step {point.step:,}"
            if learner.step >= limits.steps:
                return "ok", f"all of {quantity(limits.steps, 'step')} done"
            if self._time_is_up():
                return "timeout", f"the time limit was reached after step {learner.step:,}"
            point = self._evaluate(self._steps())

    def _steps(self) -> dict[str, float]:
        """Train up to the next evaluation; returns means over its steps."""
        learner, limits = self.learner, self.limits
        first, every = learner.step, limits.evaluate_every
        until = min(limits.steps, (first // every + 1) * every)
        losses = norms = 0.0
        before = self.elapsed_s
        with self._counted("elapsed_s"):
            while learner.step < until and not (learner.step > first and self._time_is_up()):
                loss, norm = learner.learn()
                losses, norms = losses + loss, norms + norm
                self.on_step(self._tick(loss, norm))
        done = learner.step - first
        spent = self.elapsed_s - before
        return {"train_loss": losses / done, "grad_norm": norms / done, "step_s": spent / done}

    def _evaluate(self, since: dict[str, float]) -> Evaluation:
        learner = self.learner
        with self._counted("evaluation_s"):
            learner.check_same()
            scores = self._scores(self.data)
            found = spectrum(learner.model) if learner.ranks.first else WeightSpectrum()
        point = Evaluation(
            step=learner.step,
            epoch=learner.epoch,
            split=self.split,
            elapsed_s=self.elapsed_s,
            **asdict(scores),
            **asdict(found),
            **since,
        )
        if not math.isfinite(scores.loss):
            raise Diverged(learner.step, scores.loss, since.get("grad_norm", math.nan))
        best = self.best is None or self.best.loss is None or scores.loss < self.best.loss
        self.last = point
        if best:
            self.best = point
            self.best_weights = deepcopy(learner.model.state_dict())
        self.on_evaluation(point, best)
        return point

    def _scores(self, data: Batch, task: Task | None = None) -> TaskScores:
        learner = self.learner
        return evaluate(learner.model, task or learner.task, data, learner.device, learner.ranks)

    def _test(self) -> Evaluation:
        """Scores on the test set of the best weights, where a validation set chose them.

        Of the last ones otherwise, as none may be chosen by the test set.
        """
        learner = self.learner
        at = self.last
        if self.split == "validation":
            at = self.best
            learner.model.load_state_dict(self.best_weights)
        assert at is not None
        with self._counted("evaluation_s"):
            scores = self._scores(learner.task.test_set())
        return replace(at, split="test", **asdict(scores))

    def _test_lengths(self) -> tuple[LengthTest, ...]:
        """Scores of the weights of the test on sequences as long as those of training, and longer.

        Nothing where no longer ones were asked for.
        """
        own, factors = self.learner.task, self.limits.extrapolate
        found = []
        with self._counted("evaluation_s"):
            for factor in (1, *sorted(factors)) if factors else ():
                task = own if factor == 1 else own.longer(factor)
                scores = self._scores(task.test_set(), task)
                found.append(
                    LengthTest(factor, task.length, scores.loss, task.baseline, scores.accuracy)
                )
        return tuple(found)

    def _why(self, error: Diverged) -> str:
        """The reason of a failure: the step, the norms, and the state before it."""
        other = f"gradient norm {error.grad_norm:.3g}, loss {error.loss:.3g}"
        before = self.last
        if before is None or before.loss is None:
            return f"{error} ({other})"
        norm = "" if before.grad_norm is None else f", gradient norm {before.grad_norm:.3g}"
        return f"{error} ({other}); at step {before.step:,} the loss was {before.loss:.3g}{norm}"

    def _seconds(self) -> float:
        """Seconds since :meth:`run` was called."""
        self.clock.sync()
        return self.clock.seconds(self._begin, self.clock.stamp())

    def _time_is_up(self) -> bool:
        limit = self.limits.max_s
        if limit is None:
            return False
        return self.learner.ranks.any(self._before_s + self._seconds() >= limit)

    def _tick(self, loss: float, grad_norm: float) -> StepProgress:
        step, spent = self.learner.step, self._seconds()
        pace = (step - self._first_step) / spent if spent > 0 else math.inf
        by_steps = (self.limits.steps - step) / pace
        limit = math.inf if self.limits.max_s is None else self.limits.max_s
        by_clock = max(0.0, limit - self._before_s - spent)
        left = min(by_steps, by_clock)
        return StepProgress(step, loss, grad_norm, pace, left, by_clock < by_steps)

    @contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to the attribute ``name``, also after an error."""
        self.clock.sync()
        start = self.clock.stamp()
        try:
            yield
        finally:
            self.clock.sync()
            setattr(self, name, getattr(self, name) + self.clock.seconds(start, self.clock.stamp()))


def _watched(learner: Learner) -> tuple[str, Any]:
    """The set for evaluations during training: the test set only where nothing is held out."""
    with suppress(ValueError):
        return "validation", learner.task.validation_set()
    return "test", learner.task.test_set()

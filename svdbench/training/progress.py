"""Limits, progress and outcome of a training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """When to look, and when to stop.

    Attributes:
        steps: of the optimiser, in all.
        evaluate_every: steps from evaluation to evaluation.
        target: the loss to reach, in the task's unit; None: no early stop.
        max_s: seconds to stop after, evaluations included; None: no limit.
        extrapolate: factors of the length of sequences to test on at the end.
        test: whether to look at the test set at the end.
    """

    steps: int
    evaluate_every: int
    target: float | None = None
    max_s: float | None = None
    extrapolate: tuple[int, ...] = ()
    test: bool = True


@dataclass(frozen=True)
class Evaluation:
    """An evaluation, and how training went since the one before.

    Attributes:
        train_loss, grad_norm, step_s: means over those steps; None where there were none.
    """

    step: int
    epoch: float | None
    split: str
    elapsed_s: float
    loss: float | None = None
    accuracy: float | None = None
    train_loss: float | None = None
    grad_norm: float | None = None
    sigma_min: float | None = None
    sigma_max: float | None = None
    promise: float | None = None
    step_s: float | None = None


@dataclass(frozen=True)
class LengthTest:
    """Scores on test sequences of another length than those of training.

    Attributes:
        factor: of the length.
        length: steps of a sequence.
        loss, baseline_loss: in the task's unit; the latter without a memory.
    """

    factor: int
    length: int
    loss: float
    baseline_loss: float
    accuracy: float | None


@dataclass(frozen=True)
class StepProgress:
    """Where training is, after every step.

    Attributes:
        left_s: seconds to go, at the pace so far, to the limit that comes first.
        by_clock: whether that is the limit of minutes.
    """

    step: int
    loss: float
    grad_norm: float
    steps_per_s: float
    left_s: float
    by_clock: bool


@dataclass(frozen=True)
class TrainingOutcome:
    """The outcome of a training.

    Attributes:
        status: ``ok``, all steps done; ``target``, ``timeout``, ``nan`` or ``interrupted``;
            ``oom`` or ``failed``, where something was raised.
        reason: in words.
        last: the last evaluation; of a ``nan``, the step that failed.
        best: the evaluation with the lowest loss; None before the first.
        test: the one evaluation on the test set, where training ended well.
        lengths: tests with the same weights on sequences of several lengths.
        steps_per_s: over training time.
    """

    status: str
    reason: str
    last: Evaluation | None
    best: Evaluation | None
    test: Evaluation | None
    elapsed_s: float
    evaluation_s: float
    steps_per_s: float | None
    lengths: tuple[LengthTest, ...] = ()

    @property
    def reached(self) -> Evaluation | None:
        return self.last if self.status == "target" else None

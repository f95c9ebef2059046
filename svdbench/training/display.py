"""What a training shows while it runs: live lines on a terminal, elsewhere a line an evaluation.

The live lines move with every step: where training is and how long it still takes, the
loss against the baseline with its course so far, the gradient and the spectrum.
"""

import math
from functools import partial
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from svdbench.reporting.progress import report_progress
from svdbench.reporting.words import clock_time, fixed, integer, interval, number, share, spark
from svdbench.tasks.base import Task
from svdbench.training.progress import Evaluation, Limits, StepProgress, TrainingOutcome

PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False}

# Of the running mean of the loss on minibatches, about the last fifty.
DECAY = 0.98


class TrainingDisplay:
    """Shows one training; a context manager.

    Args:
        title: what is trained.
    """

    def __init__(self, console: Console, title: str, task: Task, limits: Limits) -> None:
        self.console = console
        self.title = title
        self.task = task
        self.limits = limits
        self.course: list[float] = []
        self.train_loss: float | None = None
        self.tick: StepProgress | None = None
        self.point: Evaluation | None = None
        self.live = Live(
            console=console, refresh_per_second=8, transient=True, get_renderable=self._lines
        )

    def __enter__(self) -> "TrainingDisplay":
        self.console.print(self._heading(), **PLAIN)
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def step(self, tick: StepProgress) -> None:
        before = tick.loss if self.train_loss is None else self.train_loss
        self.train_loss = DECAY * before + (1 - DECAY) * tick.loss
        self.tick = tick
        ahead = tick.left_s * tick.steps_per_s
        ahead = ahead if math.isfinite(ahead) else 0.0
        report_progress(
            tick.step / max(tick.step + ahead, 1), f"{self.title}, step {integer(tick.step)}"
        )

    def evaluation(self, point: Evaluation) -> None:
        self.point = point
        if point.loss is not None:
            self.course.append(point.loss / self.task.baseline)
        if not self.console.is_terminal:
            self.console.print(self._line(point), **PLAIN)

    def finish(self, outcome: TrainingOutcome, reason: str) -> None:
        self.live.stop()
        words = [f"{self.title}: {reason}"]
        if outcome.best is not None:
            words.append(f"best loss {self._share(outcome.best.loss)} of baseline")
        if outcome.test is not None:
            words.append(f"test {self._share(outcome.test.loss)}, {_accuracy(outcome.test)}")
        words.append(f"{clock_time(outcome.elapsed_s)} of training")
        self.console.print("; ".join(words), **PLAIN)

    def _heading(self) -> str:
        target = self.limits.target
        aim = "" if target is None else f", target {share(target / self.task.baseline)} of it"
        return (
            f"{self.title}: {self.task.title}; baseline {number(self.task.baseline, 4)} "
            f"{self.task.loss_unit}{aim}"
        )

    def _line(self, point: Evaluation) -> str:
        """An evaluation, for a log."""
        words = [f"step {integer(point.step):>7}", f"loss {self._share(point.loss)} of baseline"]
        if point.train_loss is not None:
            words.append(f"train {self._share(point.train_loss)}")
        words.append(_accuracy(point))
        if point.grad_norm is not None:
            words.append(f"|grad| {number(point.grad_norm, 2)}")
        words.append(_spectrum(point))
        if point.step_s:
            words.append(f"{number(1 / point.step_s)} steps/s")
        if self.tick is not None:
            words.append(f"{clock_time(self.tick.left_s)} left")
        return "  ".join(word for word in words if word)

    def _lines(self) -> Group:
        """What the terminal shows now."""
        tick, point, steps = self.tick, self.point, self.limits.steps
        done = tick.step if tick else 0
        first = Table.grid(padding=(0, 1))
        pace = f"{number(tick.steps_per_s)} steps/s" if tick else ""
        first.add_row(
            "step",
            f"{integer(done)}/{integer(steps)}",
            ProgressBar(total=steps, completed=done, width=24),
            pace,
            self._left(),
        )
        second, third = Text(), Text()
        if point is not None:
            second.append(f"loss {self._share(point.loss)} of baseline ", style="bold")
            second.append(spark(self.course, self._lowest(), 1.0, 24), style="cyan")
            if self.train_loss is not None:
                second.append(f"  train {self._share(self.train_loss)}")
            third.append("  ".join(word for word in (_accuracy(point), _spectrum(point)) if word))
        if tick is not None:
            third.append(f"  |grad| {number(tick.grad_norm, 2)}")
        return Group(first, second, third)

    def _left(self) -> str:
        if self.tick is None or not math.isfinite(self.tick.left_s):
            return ""
        by = " by the clock" if self.tick.by_clock else ""
        return f"{clock_time(self.tick.left_s)} left{by}"

    def _lowest(self) -> float:
        """The lower end of the course's scale: the target, or the lowest loss so far."""
        target = self.limits.target
        ends = [0.1, *self.course] if target is None else [target / self.task.baseline]
        return max(1e-6, min(ends))

    def _share(self, loss: float | None) -> str:
        return "–" if loss is None else share(loss / self.task.baseline)


def _accuracy(point: Evaluation) -> str:
    return "" if point.accuracy is None else f"accuracy {share(point.accuracy)}"


def _spectrum(point: Evaluation) -> str:
    if point.sigma_min is None or point.sigma_max is None:
        return ""
    return f"σ {interval(point.sigma_min, point.sigma_max, partial(fixed, decimals=3))}"

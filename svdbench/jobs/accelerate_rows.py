"""What ``svdbench accelerate`` writes down: every epoch, and every arm and seed."""

from statistics import median
from typing import Any

from svdbench.acceleration import ceiling, size_of
from svdbench.classification import Scores
from svdbench.jobs.accelerate_arms import Given, Setting, TimedArm
from svdbench.jobs.side_by_side_rows import SharedRows, weight_columns
from svdbench.record.run import RunWriter
from svdbench.record.schema import COMPRESSION, LAYERS


class Rows(SharedRows):
    """The rows of a run, each in its file as soon as it is known."""

    def __init__(self, record: RunWriter, given: Given) -> None:
        super().__init__(record, given)
        config = given.config
        self.given = given
        self.options |= {
            "start": config.start.value,
            "carry_moments": config.carry_moments,
            "input_gradient": config.input_gradient,
        }
        self.multiplications = given.counted()

    def layers(self) -> None:
        """A row for each weight of each kind of arm."""
        for setting in self.given.settings:
            shared = self.settings | self._setting(setting) | {"threads": self.threads}
            for layer in setting.layers:
                row = shared | weight_columns(layer) | {"kept": layer.rank, "status": "ok"}
                self.record.append(LAYERS, row)

    def epoch(self, arm: TimedArm, split: str, scores: Scores) -> None:
        """The last epoch of an arm, with the scores that a split has after it."""
        row = self._arm(arm) | self._scores(arm, split, scores)
        own = arm.switch_s if arm.switch_s is not None and self._switched_now(arm) else None
        row |= {
            "epoch_s": arm.history[-1].seconds + (own or 0.0),
            "decompose_s": own,
            "elapsed_s": arm.seconds(),
        }
        self.record.append(COMPRESSION, row)

    def summary(self, arm: TimedArm, stock: TimedArm, scores: Scores | None) -> None:
        """The last row of an arm; ``stock`` is the dense one."""
        row = self._arm(arm) | self._scores(arm, "test", scores)
        setting, steps = arm.setting, self.given.epochs * self.given.batches
        dense = self.multiplications[self.given.settings[0].label]
        own = self.multiplications[setting.label]
        row |= {"ceiling": ceiling(dense, own, arm.switch / steps), "decompose_s": arm.switch_s}
        if arm.history:
            row |= {
                "epoch_s": median(done.seconds for done in arm.history),
                "elapsed_s": arm.seconds(),
            }
            if len(arm.history) == len(stock.history):
                row["speedup"] = stock.seconds() / arm.seconds()
        self.end(row)

    def _arm(self, arm: TimedArm) -> dict[str, Any]:
        row = self.cell(self._setting(arm.setting) | {"seed": arm.seed})
        return row | {"status": arm.status, "reason": arm.reason}

    @staticmethod
    def _setting(setting: Setting) -> dict[str, Any]:
        return {
            "method": "dnn" if setting.dense else "svd_dnn",
            "arm": setting.label,
            "rank": setting.ranks,
            "alpha": setting.alpha,
            "phi": setting.phi,
        }

    def _scores(self, arm: TimedArm, split: str, scores: Scores | None) -> dict[str, Any]:
        row: dict[str, Any] = {
            "split": split,
            "epoch": len(arm.history),
            "step": arm.steps,
            "rel_error": arm.rel_error,
            **size_of(arm.network),
        }
        if arm.rel_error is not None:
            row["energy"] = 1 - arm.rel_error**2
        if arm.history:
            row["train_loss"] = arm.history[-1].loss
        if scores is not None:
            row |= {"loss": scores.loss, "accuracy": scores.accuracy}
        return row

    def _switched_now(self, arm: TimedArm) -> bool:
        """Whether the switch was in the arm's last epoch."""
        return arm.steps - arm.history[-1].steps <= arm.switch

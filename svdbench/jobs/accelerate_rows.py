"""What ``svdbench accelerate`` writes down: every epoch, and every arm and seed."""

from dataclasses import asdict
from statistics import median
from typing import Any

import torch

from svdbench.acceleration import ceiling, size_of
from svdbench.classification import Scores
from svdbench.jobs.accelerate_arms import Given, TimedArm
from svdbench.record.schema import COMPRESSED, COMPRESSION, LAYERS, cell_id
from svdbench.record.store import Run


class Rows:
    """The rows of a run, each in its file as soon as it is known."""

    def __init__(self, record: Run, given: Given) -> None:
        config = given.config
        self.record = record
        self.given = given
        self.device = torch.device(config.device)
        self.settings: dict[str, Any] = {
            "model": "-".join(map(str, given.sizes)),
            "dataset": config.data.name,
            "batch_size": given.batch_size,
            "optimizer": config.optimizer.name,
            "lr": config.optimizer.lr,
            "device": config.device,
        }
        self.options = {
            "optimizer": asdict(config.optimizer) | {"schedule": config.optimizer.schedule.value},
            "activation": config.activation,
            "start": config.start.value,
            "shuffle": config.shuffle,
            "epochs": given.epochs,
            "dtype": config.dtype.value,
            "carry_moments": config.carry_moments,
            "input_gradient": config.input_gradient,
        }
        self.threads = torch.get_num_threads() if self.device.type == "cpu" else 0
        self.multiplications = given.counted()
        self._layers()

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
        if self.device.type == "cuda":
            row["device_name"] = torch.cuda.get_device_name(self.device)
        self.record.append(COMPRESSED, row | {"status": arm.status, "reason": arm.reason})
        self.record.commit()

    def _layers(self) -> None:
        """A row for each weight of each kind of arm."""
        for setting in self.given.settings:
            for layer in setting.layers:
                dense, numbers = layer.numbers
                row = self.settings | {
                    "method": "svd_dnn",
                    "arm": setting.label,
                    "rank": setting.ranks,
                    "alpha": setting.alpha,
                    "phi": setting.phi,
                    "threads": self.threads,
                    "layer": layer.weight.name,
                    "rows": layer.weight.rows,
                    "columns": layer.weight.columns,
                    "kept": layer.rank,
                    "form": "factors" if layer.rank else "dense",
                    "dense_numbers": dense,
                    "numbers": numbers,
                    "status": "ok",
                    "reason": layer.reason,
                }
                self.record.append(LAYERS, row)

    def _arm(self, arm: TimedArm) -> dict[str, Any]:
        setting = arm.setting
        settings = self.settings | {
            "method": "dnn" if setting.dense else "svd_dnn",
            "arm": setting.label,
            "rank": setting.ranks,
            "alpha": setting.alpha,
            "phi": setting.phi,
            "seed": arm.seed,
        }
        return settings | {
            "threads": self.threads,
            "cell": cell_id(job=self.record.job, settings=settings, options=self.options),
            "status": arm.status,
            "reason": arm.reason,
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

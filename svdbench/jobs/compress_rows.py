"""What ``svdbench compress`` writes down: every epoch, every arm, and every layer."""

from statistics import median
from typing import Any

from svdbench.classification import Scores
from svdbench.jobs.compress_arms import CompressedArm, Given
from svdbench.jobs.side_by_side_rows import SharedRows, weight_columns
from svdbench.record.run import RunWriter
from svdbench.record.schema import COMPRESSION, LAYERS


class Rows(SharedRows):
    """The rows of a run, each in its file as soon as it is known."""

    def __init__(self, record: RunWriter, given: Given) -> None:
        super().__init__(record, given)
        self.config = given.config
        self.settings["every"] = given.config.every

    def layers(self, arm: CompressedArm) -> None:
        """A row for each weight of an arm: its size, and how it would be deployed."""
        for layer in arm.made.layers:
            compressed = self._compressed(arm, layer.weight.name)
            kept = arm.compression.kept if compressed and arm.compression else None
            row = self._arm(arm) | weight_columns(layer) | {"kept": kept}
            self.record.append(LAYERS, row)

    def epoch(self, arm: CompressedArm, scores: Scores) -> None:
        """The last epoch of an arm."""
        done = arm.history[-1]
        row = self._arm(arm) | self._scores(arm, scores)
        row |= {
            "epoch_s": done.scores.seconds,
            "decompose_s": done.decompose_s,
            "elapsed_s": sum(arm.seconds()),
            "status": arm.status,
            "reason": arm.reason,
        }
        self.record.append(COMPRESSION, row)

    def summary(
        self,
        arm: CompressedArm,
        stock: CompressedArm,
        scores: Scores | None,
        latency_s: float | None,
    ) -> None:
        """The last row of an arm."""
        row = self._arm(arm) | self._scores(arm, scores)
        if arm.history:
            spent = sum(done.decompose_s for done in arm.history)
            ratios = [a / b for a, b in zip(stock.seconds(), arm.seconds(), strict=False)]
            row |= {
                "epoch_s": median(arm.seconds()),
                "decompose_s": spent,
                "elapsed_s": sum(arm.seconds()),
                "speedup": median(ratios) if ratios else None,
                "added": spent / (sum(arm.seconds()) - spent),
            }
        row |= {
            "latency_s": latency_s,
            "latency_batch": self.config.latency.batch,
            "status": arm.status,
            "reason": arm.reason,
        }
        self.end(row)

    def _arm(self, arm: CompressedArm) -> dict[str, Any]:
        setting = arm.setting
        settings = {
            "method": setting.method,
            "arm": setting.label,
            "rank": setting.rank,
            "seed": arm.seed,
        }
        own = self.config.compressor.get(setting.method)
        return self.cell(settings, compressor=own) | {"status": "ok"}

    def _scores(self, arm: CompressedArm, scores: Scores | None) -> dict[str, Any]:
        row: dict[str, Any] = {
            "split": "test",
            "n_params": arm.made.n_params,
            "macs": arm.made.macs,
            "bytes": arm.made.bytes,
            "epoch": len(arm.history),
            "step": sum(done.scores.steps for done in arm.history),
        }
        if scores is not None:
            row |= {"loss": scores.loss, "accuracy": scores.accuracy}
        if arm.history:
            last = arm.history[-1]
            row |= {"train_loss": last.scores.loss, "rel_error": last.rel_error}
            if last.rel_error is not None:
                row["energy"] = 1 - last.rel_error**2
        return row

    @staticmethod
    def _compressed(arm: CompressedArm, weight: str) -> bool:
        name = weight.removesuffix(".weight")
        return arm.compression is not None and name in arm.compression.layers

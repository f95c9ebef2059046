"""What ``svdbench compress`` writes down: every epoch, every arm, and every layer."""

from dataclasses import asdict
from statistics import median
from typing import Any

import torch

from svdbench.classification import Scores
from svdbench.compressors.factored import Deployed
from svdbench.jobs.compress_arms import CompressedArm, EpochDone
from svdbench.record.schema import COMPRESSED, COMPRESSION, LAYERS, cell_id
from svdbench.record.store import Run
from svdbench.schemas import Compress


class Rows:
    """The rows of a run, each in its file as soon as it is known.

    Args:
        sizes: of the network's layers.
        epochs: of a whole training.
    """

    def __init__(self, record: Run, config: Compress, sizes: list[int], epochs: int) -> None:
        self.record = record
        self.config = config
        self.common: dict[str, Any] = {
            "model": "-".join(map(str, sizes)),
            "dataset": config.data.name,
            "every": config.every,
            "batch_size": config.batch_size,
            "optimizer": config.optimizer.name,
            "lr": config.optimizer.lr,
            "device": config.device,
        }
        self.options = {
            "optimizer": asdict(config.optimizer) | {"schedule": config.optimizer.schedule.value},
            "activation": config.activation,
            "shuffle": config.shuffle,
            "epochs": epochs,
            "dtype": config.dtype.value,
        }
        self.device = torch.device(config.device)
        self.threads = torch.get_num_threads() if self.device.type == "cpu" else 0

    def layers(self, arm: CompressedArm, made: Deployed) -> None:
        """A row for each weight of an arm: its size, and how it would be deployed."""
        for layer in made.layers:
            dense, numbers = layer.numbers
            compressed = self._compressed(arm, layer.weight.name)
            row = self._arm(arm) | {
                "layer": layer.weight.name,
                "rows": layer.weight.rows,
                "columns": layer.weight.columns,
                "kept": arm.compression.kept if compressed and arm.compression else None,
                "form": "factors" if layer.rank else "dense",
                "dense_numbers": dense,
                "numbers": numbers,
                "reason": layer.reason,
            }
            self.record.append(LAYERS, row)

    def epoch(self, arm: CompressedArm, done: EpochDone, scores: Scores, made: Deployed) -> None:
        row = self._arm(arm) | self._scores(arm, scores, made)
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
        made: Deployed,
        latency_s: float | None,
    ) -> None:
        """The last row of an arm."""
        row = self._arm(arm) | self._scores(arm, scores, made)
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
        if self.device.type == "cuda":
            row["device_name"] = torch.cuda.get_device_name(self.device)
        row |= {
            "latency_s": latency_s,
            "latency_batch": self.config.latency.batch,
            "status": arm.status,
            "reason": arm.reason,
        }
        self.record.append(COMPRESSED, row)
        self.record.commit()

    def _arm(self, arm: CompressedArm) -> dict[str, Any]:
        setting = arm.setting
        settings = self.common | {
            "method": setting.method,
            "arm": setting.label,
            "rank": setting.rank,
            "seed": arm.seed,
        }
        own = self.config.compressor.get(setting.method)
        options = self.options | {"compressor": own}
        return settings | {
            "threads": self.threads,
            "cell": cell_id(job=self.record.job, settings=settings, options=options),
            "status": "ok",
        }

    def _scores(self, arm: CompressedArm, scores: Scores | None, made: Deployed) -> dict[str, Any]:
        row: dict[str, Any] = {
            "split": "test",
            "n_params": made.n_params,
            "macs": made.macs,
            "bytes": made.bytes,
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

"""What every row of networks trained side by side has: the settings that all arms share."""

from dataclasses import asdict
from typing import Any

from svdbench.jobs.side_by_side import Given
from svdbench.lowrank import Factored
from svdbench.measure.machine import device_name, threads_of
from svdbench.record.run import RunWriter
from svdbench.record.schema import COMPRESSED, cell_id


class SharedRows:
    """The rows of a run, each in its file as soon as it is known.

    Attributes:
        settings: columns that all rows have.
        options: what defines a cell beside its columns.
        threads: 0 on a GPU.
    """

    def __init__(self, record: RunWriter, given: Given[Any, Any]) -> None:
        config = given.config
        self.record = record
        self.settings: dict[str, Any] = {
            "model": "-".join(map(str, given.sizes)),
            "dataset": config.data.name,
            "batch_size": given.batch_size,
            "optimizer": config.optimizer.name,
            "lr": config.optimizer.lr,
            "device": config.device,
        }
        self.options: dict[str, Any] = {
            "optimizer": asdict(config.optimizer) | {"schedule": config.optimizer.schedule.value},
            "activation": config.activation,
            "shuffle": config.shuffle,
            "epochs": given.epochs,
            "dtype": config.dtype.value,
        }
        self.device = config.device
        self.threads = threads_of(self.device)

    def cell(self, settings: dict[str, Any], **options: Any) -> dict[str, Any]:
        """The columns of an arm: its settings, and the cell that they define."""
        settings = self.settings | settings
        cell = cell_id(job=self.record.job, settings=settings, options=self.options | options)
        return settings | {"threads": self.threads, "cell": cell}

    def end(self, row: dict[str, Any]) -> None:
        """Write the summary of an arm, whose rows are then complete."""
        self.record.append(COMPRESSED, row | {"device_name": device_name(self.device)})


def weight_columns(layer: Factored) -> dict[str, Any]:
    """A weight as factors or dense: which one, its size, the numbers, and why."""
    dense, numbers = layer.numbers
    return {
        "layer": layer.weight.name,
        "rows": layer.weight.rows,
        "columns": layer.weight.columns,
        "form": "factors" if layer.rank else "dense",
        "dense_numbers": dense,
        "numbers": numbers,
        "reason": layer.reason,
    }

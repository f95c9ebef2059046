"""Times a linear layer, dense and of low rank, side by side."""

from functools import partial
from math import floor
from pathlib import Path
from typing import Any

from svdbench.jobs.accelerate_when import JOB, AccelerateWhen
from svdbench.measure.algorithm import Problem
from svdbench.record.schema import SAMPLES, SUMMARY, TableSchema
from svdbench.running.session import device_of
from svdbench.timings.grid import time_grid
from svdbench.timings.layers import DenseLinear, Layer, LayerProblem, LowRank, layers_side_by_side

# The timing tables, where d is the width and m the rows of a batch.
WHEN_SAMPLES = TableSchema("samples", (*SAMPLES.own, "optimizer"))
WHEN_SUMMARY = TableSchema(
    "summary", (*SUMMARY.own, "optimizer", "n_params", "alpha", "rank", "ceiling")
)
TABLES = WHEN_SAMPLES, WHEN_SUMMARY


class LowRankShare(LowRank):
    """A layer of low rank that makes a share α of the dense one's multiplications.

    Args:
        alpha: α, as the arms of ``svdbench accelerate`` have it: the rank is ⌊α·⌊d/2⌋⌋, at least 1.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    @property
    def label(self) -> str:
        return f"α {self.alpha:g}"

    def rank_of(self, d: int) -> int:
        return max(1, floor(self.alpha * (d // 2)))

    def described(self, problem: Problem) -> dict[str, Any]:
        rank = self.rank_of(problem.d)
        own = {"alpha": self.alpha, "rank": rank, "ceiling": problem.d / (2 * rank)}
        return super().described(problem) | own


def run(config: AccelerateWhen, text: str, folder: str | None = None) -> Path:
    device_of(config)
    layers: dict[str, Layer] = {DenseLinear.name: DenseLinear()}
    layers |= {layer.label: layer for layer in map(LowRankShare, config.alphas)}
    entries = partial(layers_side_by_side, layers=layers, seed=config.seed)
    sizes = config.widths, config.rows
    return time_grid(
        JOB, config, text, folder, sizes, partial(LayerProblem.of, config), entries, TABLES
    )

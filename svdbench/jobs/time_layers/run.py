"""Times a training step of every layer, side by side."""

from functools import partial
from pathlib import Path

from svdbench.jobs.time_layers import JOB, TimeLayers
from svdbench.members import LAYERS
from svdbench.record.schema import SAMPLES, SUMMARY, TableSchema
from svdbench.running.session import device_of
from svdbench.timings.grid import time_grid
from svdbench.timings.layers import Layer, LayerProblem, layers_side_by_side
from svdbench.timings.session import check_methods, chosen

# The timing tables, where d is the width and m the rows of a batch.
LAYER_SAMPLES = TableSchema("samples", (*SAMPLES.own, "optimizer"))
LAYER_SUMMARY = TableSchema("summary", (*SUMMARY.own, "optimizer", "n_params"))
TABLES = LAYER_SAMPLES, LAYER_SUMMARY


def run(config: TimeLayers, text: str, folder: str | None = None) -> Path:
    device_of(config)
    layers: dict[str, Layer] = chosen(LAYERS, config)
    problems = partial(LayerProblem.of, config, optimizer=config.update.value)
    entries = partial(layers_side_by_side, layers=layers, seed=config.seed, update=config.update)
    sizes = config.sizes.width, config.sizes.batch
    return time_grid(JOB, config, text, folder, sizes, problems, entries, TABLES)


def check(config: TimeLayers) -> None:
    check_methods(LAYERS, config)

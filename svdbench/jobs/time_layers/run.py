"""Times a training step of every layer, side by side."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from svdbench.jobs.time_layers import JOB
from svdbench.jobs.time_layers.config import TimeLayers, Update
from svdbench.jobs.time_layers.layers import Layer, LayerProblem
from svdbench.measure.algorithm import Tensors
from svdbench.members import LAYERS
from svdbench.record.schema import SAMPLES, SUMMARY, TableSchema
from svdbench.running.session import device_of
from svdbench.timings.grid import time_grid
from svdbench.timings.session import (
    TimedMethod,
    check_methods,
    chosen,
)

# The timing tables, where d is the width and m the rows of a batch.
LAYER_SAMPLES = TableSchema("samples", (*SAMPLES.own, "optimizer"))
LAYER_SUMMARY = TableSchema("summary", (*SUMMARY.own, "optimizer", "n_params"))
TABLES = LAYER_SAMPLES, LAYER_SUMMARY
# So small that hundreds of steps with the same gradient leave the weights what they are.
LEARNING_RATE = 1e-6


@dataclass
class TimedLayer(TimedMethod):
    """A layer in one cell, and the optimizer of its parameters, if an update is part of a step."""

    update: Update = Update.none
    optimizer: Any = field(default=None, init=False)

    def judge(self, when: str) -> None:
        if self.optimizer is not None:  # the parameters have moved
            self.reference = None
        super().judge(when)

    def forward(self) -> Tensor:
        output: Tensor = self.layer.module(self.X)
        return output

    def backward(self, output: Tensors) -> tuple[Tensor, ...]:
        parameters = list(self.layer.module.parameters())
        inputs = *parameters, self.X
        gradients = torch.autograd.grad(output, inputs, self.G, allow_unused=True)
        if self.update is not Update.none:
            if self.optimizer is None:  # in the first warm-up
                kinds = {Update.sgd: torch.optim.SGD, Update.adam: torch.optim.Adam}
                self.optimizer = kinds[self.update](parameters, lr=LEARNING_RATE)
            for parameter, gradient in zip(parameters, gradients, strict=False):
                parameter.grad = gradient
            self.optimizer.step()
            self.optimizer.zero_grad()
        return gradients

    @property
    def layer(self) -> Layer:
        assert isinstance(self.method, Layer)
        return self.method


def run(config: TimeLayers, text: str, folder: str | None = None) -> Path:
    device_of(config)
    layers: dict[str, Layer] = chosen(LAYERS, config)
    problems, entries = partial(_problem, config), partial(_entries, layers=layers, config=config)
    sizes = config.sizes.width, config.sizes.batch
    return time_grid(JOB, config, text, folder, sizes, problems, entries, TABLES)


def check(config: TimeLayers) -> None:
    check_methods(LAYERS, config)


def _problem(config: TimeLayers, width: int, batch: int) -> LayerProblem:
    return LayerProblem(
        d=width,
        n=width,
        m=batch,
        dtype=getattr(torch, config.dtype.value),
        device=str(torch.device(config.device)),
        optimizer=config.update.value,
    )


def _entries(
    problem: LayerProblem, layers: dict[str, Layer], config: TimeLayers
) -> Iterator[TimedLayer]:
    """The same orthogonal weight, bias, batch and gradient for every layer."""
    generator = torch.Generator().manual_seed(config.seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    d, B = problem.d, problem.m
    W, b, X, G = torch.linalg.qr(random(d, d)).Q, random(d), random(B, d), random(B, d)
    W, b, X, G = (tensor.to(problem.device, problem.dtype) for tensor in (W, b, X, G))
    for name, layer in layers.items():
        own = X.clone().requires_grad_()
        yield TimedLayer(name, layer, (W, b), own, G, update=config.update)

"""Times the loop of a recurrent network, forward and backward, in every way to run it."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from svdbench.jobs.time_rnn import JOB, TimeRNN
from svdbench.jobs.time_rnn.loops import LoopProblem, RNNLoop
from svdbench.measure.machine import same_precision
from svdbench.members import LOOPS
from svdbench.record.schema import SAMPLES, SUMMARY, TableSchema
from svdbench.running.session import device_of
from svdbench.timings.grid import time_grid
from svdbench.timings.session import (
    TimedMethod,
    check_methods,
    chosen,
)

# The timing tables, where d is hidden units, m sequences, and n reflectors of U and of V.
_SIZES = ("length", "inputs")
LOOP_SAMPLES = TableSchema("samples", (*SAMPLES.own, *_SIZES))
LOOP_SUMMARY = TableSchema(
    "summary", (*SUMMARY.own, *_SIZES, "sequential_ops", "slides_ops", "loop")
)


def run(config: TimeRNN, text: str, folder: str | None = None) -> Path:
    same_precision(device_of(config))
    entries = partial(_entries, methods=chosen(LOOPS, config), config=config)
    sizes, tables = (config.sizes.hidden, config.sizes.length), (LOOP_SAMPLES, LOOP_SUMMARY)
    return time_grid(JOB, config, text, folder, sizes, partial(_problem, config), entries, tables)


def check(config: TimeRNN) -> None:
    check_methods(LOOPS, config)


def _problem(config: TimeRNN, hidden: int, length: int) -> LoopProblem:
    return LoopProblem(
        d=hidden,
        n=0,
        m=config.sizes.batch,
        dtype=getattr(torch, config.dtype.value),
        device=str(torch.device(config.device)),
        length=length,
        inputs=config.sizes.inputs,
    )


def _entries(
    problem: LoopProblem, methods: dict[str, RNNLoop], config: TimeRNN
) -> Iterator[TimedMethod]:
    """The same inputs for every method, and each number of reflectors where W consists of them.

    W is orthogonal within a per cent. The weights of torch.nn's modules are their own.
    """
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def given(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.to(problem.device, problem.dtype) for tensor in tensors)

    d, T, B = problem.d, problem.length, problem.m
    U, V, M, b = random(d, d), random(d, d), random(d, problem.inputs), 0.1 * random(d)
    s = torch.linspace(0.99, 1.01, d, dtype=torch.float64)
    X, G = given(random(T, B, problem.inputs), random(T, B, d))
    for name, method in methods.items():
        for count in config.sizes.reflectors if method.reflectors else [0]:
            n = d if count is None else count
            label = f"{name}_{'n' if count is None else n}" if method.reflectors else name
            V_n = given(U[:n], s, V[:n], M, b)
            own = replace(problem, n=n)
            yield TimedMethod(label, method, V_n, X.clone().requires_grad_(), G, own)

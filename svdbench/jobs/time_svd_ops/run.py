"""Times functions of a matrix through its SVD factors against torch.linalg, at equal accuracy."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from svdbench.errors import UserError
from svdbench.jobs.time_svd_ops import JOB, TimeSvdOps, operation_of
from svdbench.jobs.time_svd_ops.operations import MatrixOp
from svdbench.measure.algorithm import Problem
from svdbench.measure.clock import clock_of
from svdbench.measure.machine import rates_of
from svdbench.members import OPERATIONS
from svdbench.running.session import device_of, load, running
from svdbench.timings.session import (
    CellConditions,
    TimedMethod,
    cell_summary_line,
    plan_of,
    problem_of,
    time_cell,
)


class Inputs(NamedTuple):
    """What all ways of all operations get at one size.

    U and V (n, d) hold reflectors, s (d,) the singular values; X and G are (d, m), and g
    is the gradient at a number.
    """

    U: Tensor
    s: Tensor
    V: Tensor
    X: Tensor
    G: Tensor
    g: Tensor


def run(config: TimeSvdOps, text: str, folder: str | None = None) -> Path:
    clock = clock_of(device_of(config))
    ways = _ways(config)
    cells = len(config.sizes.d) * len(ways)
    conditions = CellConditions(plan_of(config, cells), config.measure.l2)
    with running(JOB, config, text, folder, cells) as (record, shown):
        with record.recalling() as memo:
            conditions.too_slow |= memo.get("too_slow", {})
        for d in config.sizes.d:
            units = {op: f"d = {d}, {op}" for op in ways if f"d = {d}, {op}" not in record.units}
            if not units:
                continue
            problem = problem_of(config, d)
            inputs = _inputs(problem, config)
            rates = rates_of(problem.dtype, problem.device, clock)
            for operation, unit in units.items():
                shown.begin(unit)
                entries = list(_entries(ways[operation], inputs))
                time_cell(problem, entries, conditions, record, shown, rates)
                record.finish(unit, too_slow=conditions.too_slow)
                shown.finish(f"{operation:8} {cell_summary_line(problem, entries)}")
    return record.folder


def check(config: TimeSvdOps) -> None:
    plan_of(config, cells=1)
    _ways(config)


def _ways(config: TimeSvdOps) -> dict[str, dict[str, MatrixOp]]:
    """Operation ↦ name ↦ a way to compute it."""
    ways: dict[str, dict[str, MatrixOp]] = {op: {} for op in config.ops or ()}
    for name in config.methods or sorted(config.matrix_op):
        if OPERATIONS.is_ours(name) and config.ops and operation_of(name) not in config.ops:
            continue
        loaded = load(OPERATIONS, name, config.matrix_op)
        if config.ops is None or loaded.operation in config.ops:
            ways.setdefault(loaded.operation, {})[name] = loaded
    ways = {operation: methods for operation, methods in ways.items() if methods}
    if not ways:
        raise UserError(
            "no method is left to time: choose other operations, for example --ops inverse,logdet"
        )
    return ways


def _inputs(problem: Problem, config: TimeSvdOps) -> Inputs:
    generator = torch.Generator().manual_seed(config.seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    d, n, m = problem.d, problem.n, problem.m
    low, high = config.sigma
    s = torch.linspace(low, high, d, dtype=torch.float64)
    inputs = Inputs(
        U=random(n, d),
        s=s[torch.randperm(d, generator=generator)],
        V=random(n, d),
        X=random(d, m),
        G=random(d, m),
        g=torch.tensor(1.0),
    )
    return Inputs(*(tensor.to(problem.device, problem.dtype) for tensor in inputs))


def _entries(methods: dict[str, MatrixOp], given: Inputs) -> Iterator[TimedMethod]:
    """The same matrix, X and gradient for everyone, each in the form its method takes."""
    for name, method in methods.items():
        X = given.X.clone().requires_grad_()
        G = (given.G, given.g) if method.scalar else given.G
        yield TimedMethod(name, method, (given.U, given.s, given.V), X, G)

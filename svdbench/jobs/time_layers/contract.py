"""What every layer must do."""

from dataclasses import replace

import torch

from svdbench.contract import Make
from svdbench.jobs.time_layers.layers import LayerProblem
from svdbench.measure.contract import ReadyCell, algorithm_contract, prepared


def cell(make: Make, dtype: torch.dtype = torch.float32, wide: int = 1) -> ReadyCell:
    """A layer of width 24 with X and G (5, 24), or so many times as many rows."""
    generator = torch.Generator().manual_seed(0)
    W = torch.linalg.qr(torch.randn(24, 24, generator=generator, dtype=torch.float64)).Q
    b, X, G = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in ((24,), (5 * wide, 24), (5 * wide, 24))
    )
    problem = LayerProblem(d=24, n=24, m=5 * wide, dtype=dtype)
    return prepared(make(), (W.to(dtype), b), X, G, problem)


CONTRACT = algorithm_contract(cell, wider=lambda problem: replace(problem, m=2 * problem.m))

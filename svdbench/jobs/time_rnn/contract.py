"""What every way to run the loop of a recurrent network must do."""

from dataclasses import replace

import torch

from svdbench.contract import Make, expect
from svdbench.jobs.time_rnn.loops import LoopProblem
from svdbench.measure.contract import ReadyCell, algorithm_contract, prepared


def cell(make: Make, dtype: torch.dtype = torch.float32, wide: int = 1) -> ReadyCell:
    """A loop of 7 steps, 4 sequences (or so many times as many), 3 inputs, 12 hidden units."""
    loop = make()
    n, d, inputs, steps, batch = 5, 12, 3, 7, 4 * wide
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    U, V, M, b = drawn(n, d), drawn(n, d), drawn(d, inputs), drawn(d)
    s = 1 + drawn(d) / 20
    problem = LoopProblem(
        d=d, n=n if loop.reflectors else 0, m=batch, dtype=dtype, length=steps, inputs=inputs
    )
    X, G = drawn(steps, batch, inputs), drawn(steps, batch, d)
    return prepared(loop, (U, s, V, M, b), X, G, problem)


CONTRACT = algorithm_contract(cell, wider=lambda problem: replace(problem, m=2 * problem.m))


@CONTRACT.question("depends on no later input", "state t may use X[0] … X[t] only")
def causal(make: Make) -> None:
    found = cell(make, torch.float64)
    with torch.no_grad():
        states = found.algorithm.apply(*found.parameters, found.X)
        changed = torch.cat([found.X[:4], found.X[4:] + 1])
        again = found.algorithm.apply(*found.parameters, changed)
    apart = float((states - again)[:4].norm())
    expect(apart <= 1e-10, f"inputs from step 5 change earlier states by {apart:.1e}")


@CONTRACT.question("counts operations that wait for each other")
def sequential(make: Make) -> None:
    found = cell(make)
    loop, problem = found.algorithm, found.problem
    count = loop.sequential_ops(problem)
    expect(
        isinstance(count, int) and count >= 1,
        f"sequential_ops returned {count!r}",
        "return a whole number, such as the number of steps",
    )

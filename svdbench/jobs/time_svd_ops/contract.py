"""What every way to compute a matrix operation must do."""

from dataclasses import replace

import torch

from svdbench.contract import Make, expect
from svdbench.jobs.time_svd_ops import operation_names
from svdbench.measure.algorithm import Problem
from svdbench.measure.contract import ReadyCell, algorithm_contract, each, prepared
from svdbench.nn import factored


def given(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U and V (24, 24) and s (24,) in [0.5, 1.5]."""
    generator = torch.Generator().manual_seed(0)
    U, V = torch.randn(2, 24, 24, generator=generator, dtype=torch.float64)
    s = 0.5 + torch.rand(24, generator=generator, dtype=torch.float64)
    return U.to(dtype), s.to(dtype), V.to(dtype)


def cell(make: Make, dtype: torch.dtype = torch.float32, wide: int = 1) -> ReadyCell:
    """A way with U, s, V as :func:`given`, X and G (24, 5), or so many times as wide."""
    problem = Problem(d=24, n=24, m=5 * wide, dtype=dtype)
    X, G = torch.randn(
        2, 24, problem.m, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).to(dtype)
    way = make()
    return prepared(way, given(dtype), X, (G, G.new_ones(())) if way.scalar else G, problem)


CONTRACT = algorithm_contract(cell, wider=lambda problem: replace(problem, m=2 * problem.m))


@CONTRACT.question("computes one of the operations: cayley, exp, inverse, logdet")
def operation(make: Make) -> None:
    known = operation_names()
    advice = f"set operation to one of {', '.join(known)}"
    expect(make().operation in known, f"operation is {make().operation!r}", advice)


@CONTRACT.question(
    "computes the operation that it names",
    "compare apply with the formula on W = U diag(s) Vᵀ formed as a matrix; set symmetric = True "
    "for exp and cayley, which are on U diag(s) Uᵀ",
)
def meaning(make: Make) -> None:
    found = cell(make, torch.float64)
    way = found.algorithm
    U, s, V = given(torch.float64)
    eye = torch.eye(24, dtype=torch.float64)
    on_symmetric = way.operation in ("exp", "cayley")
    W, X = factored.apply(U, s, U if on_symmetric else V, eye), found.X
    formulas = {
        "cayley": lambda: (torch.linalg.solve(eye + W, (eye - W) @ X),),
        "exp": lambda: (torch.matrix_exp(W) @ X,),
        "inverse": lambda: (torch.linalg.solve(W, X),),
        "logdet": lambda: (W @ X, torch.linalg.slogdet(W).logabsdet),
    }
    outputs = each(way.apply(*found.parameters, X))
    wanted = formulas[str(way.operation)]()
    expect(len(outputs) == len(wanted), f"apply returned {len(outputs)} of {len(wanted)} outputs")
    for output, exact in zip(outputs, wanted, strict=True):
        error = float((output - exact).detach().norm() / exact.norm())
        expect(error <= 1e-9, f"the relative error against the plain formula is {error:.1e}")

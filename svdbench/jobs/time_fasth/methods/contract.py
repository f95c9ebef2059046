"""What every orthogonal parametrisation must do."""

from dataclasses import replace

import torch

from svdbench.contract import Make, NotAsked, expect
from svdbench.measure.algorithm import Problem
from svdbench.measure.contract import ReadyCell, algorithm_contract, prepared


def cell(make: Make, dtype: torch.dtype = torch.float32, wide: int = 1, n: int = 24) -> ReadyCell:
    """A method with V (n, 24), X and G (24, 5), or so many times as wide."""
    problem = Problem(d=24, n=n, m=5 * wide, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    V, X, G = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in ((n, 24), (24, problem.m), (24, problem.m))
    )
    return prepared(make(), (V,), X, G, problem)


CONTRACT = algorithm_contract(cell, wider=lambda problem: replace(problem, m=2 * problem.m))


@CONTRACT.question("says what it builds: builds is 'QX' or 'Q'")
def builds(make: Make) -> None:
    value = make().builds
    advice = 'set builds = "QX" if only the product is formed, "Q" if the whole matrix is'
    expect(value in ("QX", "Q"), f"builds is {value!r}", advice)


@CONTRACT.question("is orthogonal", "φ(V) must satisfy QᵀQ = I for every V")
def orthogonal(make: Make) -> None:
    found = cell(make)
    eye = torch.eye(24)
    with torch.no_grad():
        Q = found.algorithm.apply(*found.parameters, eye).double()
    error = float((Q.T @ Q - torch.eye(24)).norm())
    allowed = 4 * 24 * torch.finfo(torch.float32).eps
    expect(error <= allowed, f"‖QᵀQ − I‖ is {error:.1e}, at most {allowed:.1e} is allowed")


@CONTRACT.question(
    "takes fewer and more reflectors than dimensions, or says why not",
    "return a reason from skip where problem.n is not problem.d",
)
def rectangular(make: Make) -> None:
    reasons = []
    for n in (7, 31):
        try:
            cell(make, n=n).check()
        except NotAsked as reason:
            reasons.append(reason)
    if len(reasons) == 2:
        raise reasons[0]

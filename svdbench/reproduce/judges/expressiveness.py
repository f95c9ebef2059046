"""What m reflectors can express: adding with more of them, and how near they get to a matrix."""

from itertools import pairwise

import torch
from torch import Tensor

from svdbench.nn.spectral_weight import SpectralWeight
from svdbench.reproduce.numbers import Measured, Point
from svdbench.reproduce.runs import Runs
from svdbench.reproduce.trainings import put_curves

COUNTS = ("few", "some", "many", "all")
N, TARGETS, STARTS, ITERATIONS = 12, 3, 2, 600


def measure(runs: Runs) -> Measured:
    """Losses by the number of reflectors, each over that of the fewer; distances to Q."""
    import pandas as pd

    found, tables = Measured(), []
    for count in COUNTS:
        rows = runs.table(f"reflectors-{count}")
        found.mean(f"loss_{count}", rows["relative_loss"])
        samples = runs.table(f"reflectors-{count}", "samples")
        tables.append((count, rows.set_index("seed")["relative_loss"], samples))
    for (_, fewer, _), (name, more, _) in pairwise(tables):
        found.mean(f"{name}_over_fewer", more - fewer, "paired seed")
    put_curves(found, "loss", pd.concat([s.assign(model=c) for c, _, s in tables]), "relative_loss")
    _distances(found)
    return found


def _distances(found: Measured) -> None:
    """Of random orthogonal matrices from what m₁ = m₂ = m/2 reflectors can be fitted to."""
    generator = torch.Generator().manual_seed(0)
    targets = [_special(generator) for _ in range(TARGETS)]
    worst = 0.0
    for m in range(2, N + 1, 2):
        pairs = [(_fitted(Q, m, generator), _nearest(Q, m)) for Q in targets]
        fitted, least = (sum(column) / TARGETS for column in zip(*pairs, strict=True))
        worst = max(worst, *(abs(a - b) for a, b in pairs))
        found.curves += [
            Point("fit", "fitted", m, fitted),
            Point("fit", "least possible", m, least),
        ]
        if m in (2, N // 2, N):
            found.mean(f"distance_{m}", [distance for distance, _ in pairs], "matrix", "matrices")
    found.exact("fit_error", worst)


def _special(generator: torch.Generator) -> Tensor:
    """Orthogonal, Haar, with determinant 1, which an even number of reflectors has."""
    Q = torch.linalg.qr(torch.randn(N, N, generator=generator, dtype=torch.float64)).Q
    if torch.linalg.det(Q) < 0:
        Q[:, 0].neg_()
    return Q


def _nearest(Q: Tensor, m: int) -> float:
    """The least ‖W − Q‖_F of all products W of m reflectors.

    n − m of the eigenvalues of such a W are 1. For normal matrices the distance is at least
    that of their eigenvalues, best matched (Hoffman and Wielandt, Duke Math. J. 20, 1953), so
    the m that are farthest from 1 are kept, in conjugate pairs, and the others made 1.
    """
    away = (torch.linalg.eigvals(Q) - 1).abs().square().sort().values
    return float(away[: N - m].sum().sqrt())


def _fitted(Q: Tensor, m: int, generator: torch.Generator) -> float:
    """The least ‖W − Q‖_F that L-BFGS finds from random starts."""
    best = float("inf")
    for _ in range(STARTS):
        weight = SpectralWeight(
            N, m // 2, m // 2, radius=0.0, init="random", generator=generator, dtype=torch.float64
        )
        parameters = [weight.U.free, weight.V.free]
        optimizer = torch.optim.LBFGS(
            parameters, max_iter=ITERATIONS, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = (weight() - Q).square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        best = min(best, float((weight().detach() - Q).norm()))
    return best

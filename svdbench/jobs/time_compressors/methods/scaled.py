"""Weights whose rows or columns are scaled before their SVD, and what their inputs are like."""

from collections.abc import Callable

import torch
from torch import Tensor

from svdbench.jobs.time_compressors.methods.base import CompressionProblem
from svdbench.lowrank.layers.base import Arrange, Side
from svdbench.lowrank.layers.weights import FactorableWeight
from svdbench.lowrank.ranks.moments import observe
from svdbench.lowrank.ranks.spectrum import Spectrum

# The smallest scale, as a fraction of the largest one of a weight: no column is free.
LEAST = 1e-6


def scaled_spectrum(site: FactorableWeight, scale: Tensor, side: Side = "columns") -> Spectrum:
    """The components of W by the SVD of W diag(s), or of diag(s) W.

    W_k = SVD_k(W diag(s)) diag(s)⁻¹ minimises ‖(W − W_k) diag(s)‖_F.

    Args:
        scale: s, positive, (n,) or (groups, n); of rows (m,).
    """
    W, k = site.matrix.double(), site.weight.most
    scale = scale.double()
    scale = scale.maximum(LEAST * scale.amax(-1, keepdim=True)).clamp(min=1e-30)
    across = scale.unsqueeze(-2 if side == "columns" else -1)
    U, S, Vh = torch.linalg.svd(W * across, full_matrices=False)
    root = S[..., :k].sqrt().unsqueeze(-2)
    tall = site.weight.rows > site.weight.columns
    vectors = (Vh.mT if tall else U)[..., :k]
    short = vectors * root
    through = torch.where(root > 0, vectors / root, 0.0)
    if side == ("columns" if tall else "rows"):
        short, through = short / scale.unsqueeze(-1), through * scale.unsqueeze(-1)
    energies = S.square() if site.weight.groups == 1 else S.square().sum(0)
    dtype = site.matrix.dtype
    return Spectrum(
        weight=site.weight,
        folding=site.folding,
        energies=energies,
        short=short.to(dtype),
        through=through.to(dtype),
        means=(None,) * len(site.uses),
        lost=torch.zeros_like(energies),
        output=None,
    )


class ColumnSums:
    """An observer that adds up some function of the vectors that W is applied to."""

    def __init__(self, of: Callable[[Tensor], Tensor]) -> None:
        self.of = of
        self.rows = 0
        self.total: Tensor | None = None

    def columns(self, X: Tensor) -> None:
        self.rows += X.shape[-2]
        total = self.of(X.detach()).double().sum(-2)
        self.total = total if self.total is None else self.total + total

    def picks(self, rows: Tensor) -> None:
        self.rows += rows.numel()

    def output(self, y: Tensor, arrange: Arrange | None = None, *, side: Side = "rows") -> Tensor:
        return y


def column_sums(
    problem: CompressionProblem, of: Callable[[Tensor], Tensor]
) -> dict[str, list[ColumnSums]]:
    """Sums over the calibration examples, for each use of each weight."""
    found = {name: [ColumnSums(of) for _ in site.uses] for name, site in problem.sites.items()}
    observers = [
        (use, each)
        for name, site in problem.sites.items()
        for use, each in zip(site.uses, found[name], strict=True)
    ]
    observe(problem.model, problem.calibration, observers, folding=problem.folding)
    return found


def rows_of(problem: CompressionProblem) -> dict[str, int]:
    """How many vectors each weight is applied to, over all calibration examples."""
    sums = column_sums(problem, lambda X: X[..., :0])
    return {name: max(1, sum(each.rows for each in several)) for name, several in sums.items()}

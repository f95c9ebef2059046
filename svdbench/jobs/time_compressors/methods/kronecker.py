"""Ours: the curvature of the loss on both sides of every weight, ranks chosen together."""

from svdbench.jobs.time_compressors.methods.base import ComponentMethod, CompressionProblem
from svdbench.lowrank import Frontier, Ranks


class KroneckerFrontier(ComponentMethod):
    """W_k = R^−½ SVD_k(R^½ W C^½) C^−½, and a knapsack of the predicted losses of all weights.

    As ``svdbench compress``; see :func:`svdbench.lowrank.rank_frontier`.

    Args:
        damping: of C and R, as a fraction of their mean diagonal entry.
    """

    name = "kronecker"
    title = "curvature-weighted SVD, ranks by predicted loss (svdbench compress)"
    source = "svdbench.lowrank.rank_frontier; Martens and Grosse 2015 for the curvature"
    needs = "the inputs of every layer, and gradients"

    def __init__(self, damping: float = 0.01) -> None:
        if not (isinstance(damping, int | float) and damping > 0):
            raise ValueError(f"damping is {damping!r}: give a number above 0")
        self.damping = damping

    def components(self, problem: CompressionProblem) -> Frontier:
        return problem.frontier("kronecker", damping=self.damping)

    def ranks(self, problem: CompressionProblem, frontier: Frontier, params: int) -> Ranks:
        return frontier.ranks(params=params)

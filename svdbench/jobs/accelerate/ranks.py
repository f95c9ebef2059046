"""The ranks of an arm: by α in its two meanings, or given layer by layer."""

from collections.abc import Sequence
from math import floor

from svdbench.lowrank.layers.factor import RankRule, Weight
from svdbench.members import refuse_unknown

ALPHA_MEANINGS = ("code", "text")


def alpha_rank(alpha: float, rows: int, columns: int, meaning: str = "code") -> int:
    """The rank l of a weight (rows, columns), 1 at least.

    * "text": l = ⌊α·min(m, n)⌋, as Sarnayak et al. 2020 say in words. At α = ½, factors of
      a square matrix have as many numbers as the matrix.
    * "code": l = ⌊α·⌊mn/(m + n)⌋⌋, as its program has it: α of the rank at which the factors
      would have as many numbers, so that a layer always saves, about 1 − α.

    Source: Sarnayak, Mohanty, Temkar, "Deep Neural Networks and Accelerating them using
    Singular Value Decomposition", 2020, §3.3.5.
    """
    refuse_unknown("meaning of alpha", [meaning], ALPHA_MEANINGS)
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha is {alpha}: give a number above 0 and at most 1")
    whole = min(rows, columns) if meaning == "text" else rows * columns // (rows + columns)
    return max(1, floor(alpha * whole))


def alpha_rule(alpha: float, meaning: str = "code") -> RankRule:
    alpha_rank(alpha, 1, 1, meaning)

    def rule(weight: Weight) -> int:
        return alpha_rank(alpha, weight.rows, weight.columns, meaning)

    return rule


def layer_rule(ranks: Sequence[int | None], weights: Sequence[str]) -> RankRule:
    """The rule that gives each weight, in the order of the layers, a rank of its own."""
    if len(ranks) != len(weights):
        raise ValueError(
            f"there are {len(ranks)} ranks for {len(weights)} weights: give one for "
            "each, or none to leave a layer dense"
        )
    by_name = dict(zip(weights, ranks, strict=True))
    return lambda weight: by_name[weight.name]

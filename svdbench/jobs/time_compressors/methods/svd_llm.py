"""SVD-LLM and its second version: the weights whose outputs are nearest on the examples."""

import math
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from svdbench.jobs.time_compressors.methods.base import ComponentMethod, CompressionProblem, rows_of
from svdbench.lowrank import Frontier, Ranks, Weight, uniform_ranks
from svdbench.lowrank.ranks.examples import DataWarning

# What is said of moments that have no Cholesky factor, and the damping beyond which to give up.
SINGULAR, MOST_DAMPING = "singular to rounding", 0.1
# Parts of the numbers that are tried for removal.
RATIOS = np.linspace(0, 1, 1001)


class SVDLLM(ComponentMethod):
    """W_k = SVD_k(W S) S⁻¹ with S Sᵀ = Σ x xᵀ by Cholesky; the same fraction of every weight.

    Computed as U_k U_kᵀ W for the eigenvectors U of W S Sᵀ Wᵀ where W is wide, which is the same
    matrix. The fine-tuning that the paper adds above a fifth of the numbers is --finetune-epochs,
    for all methods alike.

    Args:
        damping: added to the diagonal of the mean of x xᵀ, as a fraction of that diagonal's mean;
            ten times as much each time that the Cholesky factorisation fails, as where there are
            fewer rows than inputs. The authors' code adds what makes it succeed, too.
    """

    name = "svd_llm"
    title = "activation-whitened SVD, the same fraction of every weight"
    source = "Wang, Zheng, Wan and Zhang, SVD-LLM, ICLR 2025 (arXiv 2403.07378), §3.1"
    needs = "the inputs of every layer"

    def __init__(self, damping: float = 1e-6) -> None:
        if not (isinstance(damping, int | float) and damping > 0):
            raise ValueError(f"damping is {damping!r}: give a number above 0")
        self.damping = damping

    def components(self, problem: CompressionProblem) -> Frontier:
        damping = self.damping
        while True:
            try:
                return problem.frontier("whitened", damping=damping, recentre=False, effects=False)
            except ValueError as error:
                if SINGULAR not in str(error) or damping >= MOST_DAMPING:
                    raise
            damping *= 10
            warnings.warn(
                f"the inputs of a layer are too few for {self.name}: damped by {damping:g}",
                DataWarning,
                stacklevel=2,
            )

    def ranks(self, problem: CompressionProblem, frontier: Frontier, params: int) -> Ranks:
        return uniform_ranks(frontier, params)


class SVDLLMv2(SVDLLM):
    """The same weights, with a fraction for each that its own truncation loss decides.

    Among weights of one kind, as all queries, a weight is compressed in proportion to 1/log L,
    where L = ‖(W − W_k)X‖_F at the common fraction. L is e at least here, as the logarithm of a
    smaller one is no measure; a network of language has losses of thousands. The whitening by the
    SVD of Σ x xᵀ in place of Cholesky's factor gives the same matrices.
    """

    name = "svd_llm_v2"
    title = "activation-whitened SVD, fractions by truncation loss"
    source = "Wang, Alam, Wan, Shen and Zhang, SVD-LLM V2, NAACL 2025 (arXiv 2503.12340), §3"
    needs = "the inputs of every layer, and names that tell layers of one kind"

    def ranks(self, problem: CompressionProblem, frontier: Frontier, params: int) -> Ranks:
        rows = rows_of(problem)
        left = {
            name: np.sqrt(rows[name] * _left_out(each.lost))
            for name, each in frontier.layers.items()
        }
        weights = {name: each.weight for name, each in frontier.layers.items()}
        for ratio in RATIOS:
            ranks = _at(float(ratio), weights, left)
            if frontier.params(ranks) <= params:
                return ranks
        raise ValueError(f"no ranks have {params:,} parameters or fewer: give a larger budget")


def _left_out(lost: Tensor) -> "np.ndarray":
    """What is lost by keeping k = 0, 1, … components (r + 1,)."""
    values = lost.double().cpu().numpy()
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)


def _at(ratio: float, weights: Mapping[str, Weight], left: Mapping[str, "np.ndarray"]) -> Ranks:
    """The ranks where the part ``ratio`` of the numbers goes, shared out within each kind."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in weights:
        kinds[re.sub(r"\d+", "#", name)].append(name)
    ranks: Ranks = {}
    for names in kinds.values():
        inverse = {
            name: 1 / math.log(max(left[name][_rank(weights[name], ratio)], math.e))
            for name in names
        }
        scale = len(names) * ratio / sum(inverse.values())
        for name in names:
            removed = min(scale * inverse[name], 1.0)
            rank = _rank(weights[name], removed)
            ranks[name] = rank if removed and rank <= weights[name].most else None
    return {name: ranks[name] for name in weights}


def _rank(weight: Weight, removed: float) -> int:
    """The rank at which a part of the numbers is removed, 1 at least."""
    m, n = weight.rows, weight.columns
    return max(1, min(int((1 - removed) * m * n / (m + n)), m, n))

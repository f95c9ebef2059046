"""ASVD: the columns of a weight scaled by how large its inputs are, ranks by tried-out losses."""

import math
from collections.abc import Callable

import torch
from torch import nn

from svdbench.arguments import check_whole
from svdbench.jobs.time_compressors.methods.base import (
    ComponentMethod,
    CompressionProblem,
    column_sums,
    scaled_spectrum,
)
from svdbench.lowrank import Frontier, Ranks, example_losses, uniform_ranks


class ASVD(ComponentMethod):
    """W_k = SVD_k(W diag(s)) diag(s)⁻¹ with s = (mean |x|)^α.

    Ranks by the paper's search: each weight alone is cut to a tenth, two tenths, … of its numbers
    and the loss measured on some of the calibration examples; then each weight gets the smallest
    fraction at which that loss is below a threshold common to all.

    Args:
        alpha: the power.
        examples: of the calibration on which the losses are measured; 0: the same fraction of every
            weight instead of a search.
    """

    name = "asvd"
    title = "activation-scaled SVD, ranks by tried-out losses"
    source = "Yuan et al., ASVD, 2023 (arXiv 2312.05821), §3.2–3.3"
    needs = "the inputs of every layer, and nine evaluations of the loss for every weight"

    def __init__(self, alpha: float = 0.5, examples: int = 32) -> None:
        if not (isinstance(alpha, int | float) and 0 <= alpha <= 4):
            raise ValueError(f"alpha is {alpha!r}: give a number from 0 to 4")
        check_whole(0, examples=examples)
        self.alpha, self.examples = alpha, examples
        self.losses: dict[str, dict[int, float]] = {}

    def components(self, problem: CompressionProblem) -> Frontier:
        sums = column_sums(problem, torch.abs)
        layers = {}
        for name, site in problem.sites.items():
            known = [each.total / each.rows for each in sums[name] if each.total is not None]
            W = site.matrix
            scale = torch.stack(known).mean(0) if known else torch.ones(W.shape[-1])
            layers[name] = scaled_spectrum(site, scale.to(W.device) ** self.alpha)
        return Frontier(layers)

    def calibrated(self, problem: CompressionProblem) -> Callable[[int], nn.Module]:
        self.losses = {}
        return super().calibrated(problem)

    def ranks(self, problem: CompressionProblem, frontier: Frontier, params: int) -> Ranks:
        if not self.examples:
            return uniform_ranks(frontier, params)
        if not self.losses:
            self.losses = self._tried(problem, frontier)
        known = {loss for tried in self.losses.values() for loss in tried.values()}
        thresholds = [float("-inf"), *sorted(known)]

        def at(threshold: float) -> Ranks:
            return {
                name: min((rank for rank, loss in tried.items() if loss <= threshold), default=None)
                for name, tried in self.losses.items()
            }

        for threshold in thresholds:
            ranks = at(threshold)
            if frontier.params(ranks) <= params:
                return ranks
        raise ValueError(f"no ranks have {params:,} parameters or fewer: give a larger budget")

    def _tried(
        self, problem: CompressionProblem, frontier: Frontier
    ) -> dict[str, dict[int, float]]:
        """The loss with one weight at a time at each of nine ranks, by name and rank."""
        few = problem.first(self.examples)
        found: dict[str, dict[int, float]] = {}
        for name, each in frontier.layers.items():
            whole = each.weight.most
            ranks = sorted({max(1, round(part * whole / 10)) for part in range(1, 10) if whole})
            found[name] = {}
            for rank in ranks:
                view = frontier.view(problem.model, {name: rank})
                loss = float(example_losses(view, few, problem.loss).mean())
                found[name][rank] = math.inf if math.isnan(loss) else loss
        return found

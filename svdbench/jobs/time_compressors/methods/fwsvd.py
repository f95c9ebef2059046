"""FWSVD: the inputs of a weight scaled by the Fisher information of what they meet there."""

from collections.abc import Sequence

import torch
from torch import Tensor

from svdbench.arguments import check_whole
from svdbench.jobs.time_compressors.methods.base import (
    ComponentMethod,
    CompressionProblem,
    scaled_spectrum,
)
from svdbench.lowrank import Frontier, Ranks, uniform_ranks
from svdbench.lowrank.layers.weights import FactorableWeight, copied
from svdbench.lowrank.ranks.evaluation import batch_loss
from svdbench.lowrank.ranks.examples import called, evaluating, size, take

# ‖gradient‖·‖weights‖ below this is rounding: no step that keeps the weights' size changes a loss.
LEAST = 1e-3


class FWSVD(ComponentMethod):
    """W_k = SVD_k(W diag(s)) diag(s)⁻¹ with sⱼ² = Σᵢ E[(∂loss/∂Wᵢⱼ)²] over single examples.

    The paper's rows are those of x W, the inputs, which are the columns of a weight of torch, and
    the rows of an embedding. The same fraction of every weight.

    Args:
        examples: of the calibration, that a gradient is computed of, one by one.
    """

    name = "fwsvd"
    title = "Fisher-weighted SVD, the same fraction of every weight"
    source = "Hsu et al., Language model compression with weighted low-rank factorization, ICLR "
    source += "2022 (arXiv 2207.00112), §3"
    needs = "labels, and the gradient of every single example"

    def __init__(self, examples: int = 256) -> None:
        check_whole(1, examples=examples)
        self.examples = examples

    def components(self, problem: CompressionProblem) -> Frontier:
        squares = self._fisher(problem)
        layers = {}
        for name, site in problem.sites.items():
            lookup = site.uses[0].kind.lookup
            scale = squares[name].sum(-1 if lookup else -2).sqrt()
            layers[name] = scaled_spectrum(site, scale, "rows" if lookup else "columns")
        return Frontier(layers)

    def ranks(self, problem: CompressionProblem, frontier: Frontier, params: int) -> Ranks:
        return uniform_ranks(frontier, params)

    def _fisher(self, problem: CompressionProblem) -> dict[str, Tensor]:
        """The mean square of each number's gradient, arranged as its weight."""
        model = copied(problem.model).requires_grad_(False)
        sites = problem.plain.sites(model)
        parameters = list(
            {id(p): p for site in sites.values() for p in [site.uses[0].part.parameter]}.values()
        )
        squares = [torch.zeros_like(p) for p in parameters]
        count = 0
        with evaluating(model), torch.backends.cudnn.flags(enabled=False):
            for p in parameters:
                p.requires_grad_(True)
            for x, y in problem.first(self.examples):
                for row in (slice(i, i + 1) for i in range(size(x))):
                    output = called(model, take(x, row))
                    loss = batch_loss(problem.loss, output, take(y, row))
                    found = torch.autograd.grad(loss, parameters, allow_unused=True)
                    for total, gradient in zip(squares, found, strict=True):
                        if gradient is not None:
                            total += gradient.square()
                    count += 1
        _refuse_none(parameters, squares, count)
        return {
            name: _arranged(site, squares[next(i for i, p in enumerate(parameters) if p is own)])
            for name, site in sites.items()
            for own in [site.uses[0].part.parameter]
        }


def _refuse_none(parameters: Sequence[Tensor], squares: Sequence[Tensor], count: int) -> None:
    slope = sum(float(each.sum()) for each in squares) / count
    size_of = sum(float(p.detach().square().sum()) for p in parameters)
    if not (slope * size_of) ** 0.5 > LEAST:
        raise ValueError(
            "the gradient vanishes, as where targets are the model's own outputs: the Fisher "
            "information of FWSVD needs labels"
        )


@torch.no_grad()
def _arranged(site: FactorableWeight, square: Tensor) -> Tensor:
    """Numbers of a parameter's shape as the matrix that its weight is seen as."""
    parameter = site.uses[0].part.parameter
    before, parameter.data = parameter.data, square
    found = site.matrix.clone()
    parameter.data = before
    return found

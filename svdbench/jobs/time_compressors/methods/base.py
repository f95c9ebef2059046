"""Ways to compress a whole model to low rank within a budget of parameters.

To add one, define a subclass of :class:`ModelCompressor` with a ``name`` beside this file and add a
YAML of that name to ``conf/model_compressor``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from svdbench.lowrank import Frontier, Ranks, rank_frontier
from svdbench.lowrank.layers.base import Arrange, Folding, Side, numbers_of
from svdbench.lowrank.layers.weights import FactorableWeight
from svdbench.lowrank.ranks.examples import Data, Inputs, Loss, Targets, batches, size, take
from svdbench.lowrank.ranks.frontier import Kind
from svdbench.lowrank.ranks.moments import observe
from svdbench.lowrank.ranks.spectrum import Spectrum


@dataclass(frozen=True)
class CompressionProblem:
    """A model to compress, and everything that a method may use.

    Attributes:
        model: the dense model, which must not be changed.
        calibration: examples for calibration, (X, y) or batches.
        search: further examples, for choosing ranks.
        loss: function of the model's output and y, the mean over a batch.
        layers: full names of the weights to compress; None for all.
        skip_last: leave the last layer dense.
        embeddings: whether embedding tables may be factored.
        folding: folding of convolutions, see :class:`svdbench.lowrank.LowRankConv2d`.
        seed: seed for methods with random numbers.
        blockwise: as in :func:`svdbench.lowrank.rank_frontier`.

    Example:
        >>> model = torch.nn.Linear(8, 6)
        >>> examples = torch.randn(64, 8), torch.randn(64, 6)
        >>> loss = torch.nn.functional.mse_loss
        >>> problem = CompressionProblem(model, examples, examples, loss)
        >>> list(problem.sites)
        ['weight']
        >>> problem.plain.n_params
        48
    """

    model: nn.Module
    calibration: Data
    search: Data
    loss: Loss
    layers: Sequence[str] | None = None
    skip_last: bool = False
    embeddings: bool = True
    folding: Folding = "spatial"
    seed: int = 0
    blockwise: bool = False

    def frontier(self, kind: Kind, **options: Any) -> Frontier:
        """The weights to compress as components: :func:`svdbench.lowrank.rank_frontier`."""
        return rank_frontier(
            self.model,
            self.calibration,
            self.loss,
            kind=kind,
            layers=self.layers,
            skip_last=self.skip_last,
            embeddings=self.embeddings,
            folding=self.folding,
            blockwise=self.blockwise,
            **options,
        )

    @cached_property
    def plain(self) -> Frontier:
        """The weights to compress with their own singular values; also counts parameters."""
        return self.frontier("plain")

    @cached_property
    def sites(self) -> dict[str, FactorableWeight]:
        """The same weights with their modules, by name."""
        return self.plain.sites(self.model)

    def with_examples(self, calibration: Data, search: Data, seed: int) -> Self:
        """The same model with other examples; its weights are not analysed again."""
        other = replace(self, calibration=calibration, search=search, seed=seed)
        for name in ("plain", "sites"):
            if name in vars(self):
                vars(other)[name] = getattr(self, name)
        return other

    def numbers_in(self, small: nn.Module) -> int:
        """The number of parameters that represent these weights in a compressed model."""
        return numbers_of(small) - numbers_of(self.model) + self.plain.n_params

    def first(self, count: int) -> list[tuple[Inputs, Targets]]:
        """The first calibration examples, in batches."""
        found, left = [], count
        for x, y in batches(self.calibration, self.model):
            rows = slice(min(left, size(x)))
            found.append((take(x, rows), take(y, rows)))
            left -= size(x)
            if left <= 0:
                break
        return found


class ModelCompressor(ABC):
    """Compresses a model within a budget of parameters.

    Define ``calibrated``. All methods get the same model, examples and budgets, and are compared by
    the loss on held-out examples.

    Class attributes:
        title: the method, in a few words.
        source: where the method comes from.
        needs: what it uses besides the weights, such as ``"nothing"``, ``"inputs of the layers"``
            or ``"gradients"``; and settings of its own.

    Example:
        .. code-block:: python

            from svdbench.extend import ModelCompressor
            from svdbench.lowrank import uniform_ranks

            class Uniform(ModelCompressor):
                title, source = "truncated SVD", "Eckart and Young 1936"
                needs = "nothing"

                def calibrated(self, problem):
                    def small(params):
                        ranks = uniform_ranks(problem.plain, params)
                        return problem.plain.compressed(problem.model, ranks)

                    return small
    """

    title: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[str]

    @abstractmethod
    def calibrated(self, problem: CompressionProblem) -> Callable[[int], nn.Module]:
        """Calibrate on the model and the examples, once for all budgets.

        Returns:
            A function of the largest number of parameters in the weights of ``problem.plain``. It
            returns a compressed model, independent of the original.

        Raises:
            ValueError: the method does not apply to this model or these examples. The function
                raises it for a budget that is too small.
        """


class ComponentMethod(ModelCompressor):
    """A method that orders the components of every weight once, and chooses ranks by budget."""

    @abstractmethod
    def components(self, problem: CompressionProblem) -> Frontier:
        """The components of the weights, the most valuable first."""

    @abstractmethod
    def ranks(self, problem: CompressionProblem, frontier: Frontier, params: int) -> Ranks:
        """The ranks of the weights of ``frontier`` within a budget of parameters."""

    def calibrated(self, problem: CompressionProblem) -> Callable[[int], nn.Module]:
        frontier = self.components(problem)
        # Weights that no example reaches are in no frontier but the plain one, and stay dense.
        dense = problem.plain.n_params - frontier.n_params

        def compressed(params: int) -> nn.Module:
            ranks = self.ranks(problem, frontier, params - dense)
            return frontier.compressed(problem.model, ranks)

        return compressed


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
    """An observer that sums a function of the vectors that W is applied to."""

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

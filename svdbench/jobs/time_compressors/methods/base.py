"""Ways to compress a whole model to low rank within a budget of numbers.

To add one, define a subclass of :class:`ModelCompressor` with a ``name`` beside this file and add a
YAML of that name to ``conf/model_compressor``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

from torch import nn

from svdbench.lowrank import Frontier, Ranks, rank_frontier
from svdbench.lowrank.layers.base import Folding, numbers_of
from svdbench.lowrank.layers.weights import FactorableWeight
from svdbench.lowrank.ranks.examples import Data, Inputs, Loss, Targets, batches, size, take
from svdbench.lowrank.ranks.frontier import Kind


@dataclass(frozen=True)
class CompressionProblem:
    """A model to compress, and all that a method may look at.

    Attributes:
        model: stays as it is.
        calibration: examples to calibrate on, (X, y) or batches.
        search: further examples, to choose by.
        loss: of the model's output and y, the mean over a batch.
        layers: full names of the weights to compress; None for all.
        skip_last: leave the last layer dense.
        embeddings: whether tables of embeddings may be factored.
        folding: of convolutions, see :class:`svdbench.lowrank.LowRankConv2d`.
        seed: for methods that draw.
        blockwise: of :func:`svdbench.lowrank.rank_frontier`.

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
        """The weights to compress by their own singular values; what is counted."""
        return self.frontier("plain")

    @cached_property
    def sites(self) -> dict[str, FactorableWeight]:
        """The same weights where they stand in the model, by name."""
        return self.plain.sites(self.model)

    def with_examples(self, calibration: Data, search: Data, seed: int) -> Self:
        """The same model with other examples; its weights are not looked at again."""
        other = replace(self, calibration=calibration, search=search, seed=seed)
        for name in ("plain", "sites"):
            if name in vars(self):
                vars(other)[name] = getattr(self, name)
        return other

    def numbers_in(self, small: nn.Module) -> int:
        """The numbers of a compressed model that stand for these weights."""
        return numbers_of(small) - numbers_of(self.model) + self.plain.n_params

    def first(self, count: int) -> list[tuple[Inputs, Targets]]:
        """The first examples of the calibration, in batches."""
        found, left = [], count
        for x, y in batches(self.calibration, self.model):
            rows = slice(min(left, size(x)))
            found.append((take(x, rows), take(y, rows)))
            left -= size(x)
            if left <= 0:
                break
        return found


class ModelCompressor(ABC):
    """Compresses a model within a budget of numbers.

    Define ``calibrated``. All methods get the same model, the same examples and the same budgets,
    and are judged by the loss on examples that they never see.

    Class attributes:
        title: in a few words.
        source: where the method comes from.
        needs: what it looks at besides the weights, as ``"nothing"``, ``"inputs of the layers"``
            or ``"gradients"``; and settings that it doesn't share with others.

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
        """Look at the model and the examples, once for all budgets.

        Returns:
            A function of the numbers that the weights of ``problem.plain`` may have at most. It
            returns a compressed model, independent of the one given.

        Raises:
            ValueError: the method does not apply to this model, or these examples. The function
                raises it for a budget that is too small.
        """


class ComponentMethod(ModelCompressor):
    """A method that orders the components of every weight once, and chooses ranks by budget."""

    @abstractmethod
    def components(self, problem: CompressionProblem) -> Frontier:
        """The components of the weights, the most valuable first."""

    @abstractmethod
    def ranks(self, problem: CompressionProblem, frontier: Frontier, params: int) -> Ranks:
        """The ranks of the weights of ``frontier`` with at most so many numbers."""

    def calibrated(self, problem: CompressionProblem) -> Callable[[int], nn.Module]:
        frontier = self.components(problem)
        # Weights that no example reaches are in no frontier but the plain one, and stay dense.
        dense = problem.plain.n_params - frontier.n_params

        def compressed(params: int) -> nn.Module:
            ranks = self.ranks(problem, frontier, params - dense)
            return frontier.compressed(problem.model, ranks)

        return compressed

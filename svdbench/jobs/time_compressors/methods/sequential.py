"""Ours with sequential correction: layers made for what compressed ones before them give."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.jobs.time_compressors.methods.base import CompressionProblem
from svdbench.jobs.time_compressors.methods.kronecker import KroneckerFrontier
from svdbench.lowrank import Frontier, Ranks
from svdbench.lowrank.drivers.base import working
from svdbench.lowrank.layers.base import Arrange, Factors, Side
from svdbench.lowrank.layers.factor import factors_of
from svdbench.lowrank.layers.weights import FactorableWeight, copied, with_factors
from svdbench.lowrank.ranks.examples import batches
from svdbench.lowrank.ranks.moments import Moments, observe
from svdbench.lowrank.ranks.spectrum import spectrum

# Weights by name, in groups that are factored at once, in the order of a forward pass.
Order = list[list[str]]


class SequentialKronecker(KroneckerFrontier):
    """As ``kronecker``, with weights factored in the order of a forward pass.

    The ranks are those of ``kronecker``. Let x be the vectors that a weight W is applied to in the
    dense model, and x̃ those in the model whose earlier layers are factored. In the place of W
    comes W T, T = (Cov(x, x̃) + λI)(Cov(x̃) + λI)⁻¹, whose output for x̃ is nearest to W x; and in
    that of Cov(x) comes Cov(x̃). The curvature is that of the dense model.

    Weights of one module, and of modules with the same input, are factored at once. Embeddings and
    weights that modules share are as in ``kronecker``. Every other group takes a pass over the
    calibration examples, through both models. A weight that a forward pass uses several times is
    fitted to its inputs in all of these uses.

    Args:
        damping: of both moments, as a fraction of their mean diagonal entry.
        ridge: λ, as a fraction of the mean diagonal entry of Cov(x̃).
    """

    name = "kronecker_sequential"
    title = "curvature-weighted SVD, each layer corrected for those before it"
    source = "svdbench.lowrank.rank_frontier, with inputs as the compressed layers before give them"
    needs = "the inputs of every layer, gradients, and a pass for each group of layers"

    def __init__(self, damping: float = 0.01, ridge: float = 0.01) -> None:
        super().__init__(damping)
        if not (isinstance(ridge, int | float) and ridge > 0):
            raise ValueError(f"ridge is {ridge!r}: give a number above 0")
        self.ridge = ridge

    def calibrated(self, problem: CompressionProblem) -> Callable[[int], nn.Module]:
        moments: dict[str, Moments] = {}

        def keep(site: FactorableWeight, several: Sequence[Moments]) -> None:
            if len(site.uses) == 1 and not site.uses[0].kind.lookup:
                moments[site.name] = several[0]

        frontier = problem.frontier("kronecker", damping=self.damping, on_moments=keep)
        sites = [problem.sites[name] for name in moments]
        inputs = inputs_in_order(problem, sites)
        order = forward_order(problem, sites, inputs)
        again = {name for name, several in inputs.items() if len(several) > 1}
        dense = problem.plain.n_params - frontier.n_params

        def compressed(params: int) -> nn.Module:
            ranks = self.ranks(problem, frontier, params - dense)
            return self._compressed(problem, frontier, ranks, moments, order, again)

        return compressed

    @torch.no_grad()
    def _compressed(
        self,
        problem: CompressionProblem,
        frontier: Frontier,
        ranks: Ranks,
        moments: Mapping[str, Moments],
        order: Order,
        again: Set[str],
    ) -> nn.Module:
        """The model with one group of weights after the other as factors.

        Args:
            again: weights that a forward pass uses more than once.
        """
        others = {name: rank for name, rank in ranks.items() if name not in moments}
        small = frontier.view(problem.model, others)
        for number, names in enumerate(order):
            here = problem.plain.sites(small)
            pairs = [
                InputPair(problem.sites[name], here[name], rank)
                for name in names
                if (rank := ranks[name]) is not None
            ]
            if pairs:
                following = order[number + 1][0] if number + 1 < len(order) else None
                if not again.isdisjoint(names):  # they may be used after it
                    following = None
                _compare(problem, small, pairs, following)
                chosen = [(pair.here, self._factors(pair, moments[pair.name])) for pair in pairs]
                small = with_factors(small, chosen)
        return copied(small)

    def _factors(self, pair: "InputPair", dense: Moments) -> list[Factors]:
        """The factors of a weight, made for what comes into it.

        Args:
            dense: moments in the dense model.
        """
        W, (M, moments) = pair.site.matrix, self.corrected(pair, dense)
        found = spectrum(
            pair.site, [moments], damping=self.damping, recentre=True, matrix=M.to(W.dtype)
        )
        W1, W2 = (
            each.clone(memory_format=torch.contiguous_format)
            for each in found.components(M.to(W.dtype), pair.rank)
        )
        shift = None
        if pair.centred:
            _, _, *means = pair.means()
            x, own = (each.to(W.dtype).unsqueeze(-1) for each in means)
            shift = (W @ x - W1 @ (W2 @ own)).squeeze(-1)
        return factors_of(pair.here, W1, W2, [shift])

    def corrected(self, pair: "InputPair", dense: Moments) -> tuple[Tensor, Moments]:
        """What takes the place of the weight, in float64, and its moments."""
        second, cross, before, mean = pair.means()
        covariance = second
        if pair.centred:
            cross = cross - before.unsqueeze(-1) * mean.unsqueeze(-2)
            covariance = second - mean.unsqueeze(-1) * mean.unsqueeze(-2)
        size = covariance.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=1e-30)
        ridge = torch.eye(second.shape[-1], dtype=second.dtype, device=second.device)
        ridge = self.ridge * size[..., None, None] * ridge
        T = torch.linalg.solve(covariance + ridge, (cross + ridge).mT).mT
        M = pair.site.matrix.double() @ T
        if pair.site.weight.rows > pair.site.weight.columns:
            long = None if dense.long is None else T.mT @ dense.long.double() @ T
            return M, Moments(second, long, dense.long_trace, mean)
        trace = second.diagonal(dim1=-2, dim2=-1).sum(-1)
        return M, Moments(dense.short, M @ second @ M.mT, trace, mean)


@dataclass
class InputPair:
    """The vectors that a weight is applied to in two models, as sums over the same examples.

    Attributes:
        site, here: the weight in the dense model, and in the one whose earlier layers are factored.
        rank: that it gets.
    """

    site: FactorableWeight
    here: FactorableWeight
    rank: int
    rows: int = 0
    waiting: list[Tensor] = field(default_factory=list)
    sums: list[Tensor] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.site.name

    @property
    def centred(self) -> bool:
        """Whether a bias makes up for the means."""
        return self.site.uses[0].part.bias

    def dense(self, X: Tensor) -> None:
        """Vectors in the dense model, as rows (..., R, n)."""
        self.waiting.append(working(X).clone())

    def compressed(self, X: Tensor) -> None:
        """The same vectors in the other model.

        Raises:
            ValueError: there are none.
        """
        if not self.waiting or self.waiting[0].shape != X.shape:
            raise ValueError(
                f"{self.name} gets other inputs once layers before it are compressed, and can't "
                "be corrected for them: choose kronecker"
            )
        other, own = self.waiting.pop(0), working(X)
        self.rows += own.shape[-2]
        found = [own.mT @ own, other.mT @ own, other.sum(-2), own.sum(-2)]
        if self.sums:
            for total, each in zip(self.sums, found, strict=True):
                total += each
        else:
            self.sums = [each.double() for each in found]

    def means(self) -> list[Tensor]:
        """E[x̃ x̃ᵀ], E[x x̃ᵀ], E[x] and E[x̃], in float64."""
        return [total / self.rows for total in self.sums]


def inputs_in_order(
    problem: CompressionProblem, sites: Sequence[FactorableWeight]
) -> dict[str, list[Tensor]]:
    """What each weight is applied to, call by call, as a forward pass of one example reaches it."""
    seen: dict[str, list[Tensor]] = {}

    def see(name: str, X: Tensor) -> None:
        seen.setdefault(name, []).append(X)

    observers = [(site.uses[0], _InputObserver(partial(see, site.name))) for site in sites]
    ((x, _),) = problem.first(1)
    observe(problem.model, [(x, None)], observers, folding=problem.folding)
    return seen


def forward_order(
    problem: CompressionProblem,
    sites: Sequence[FactorableWeight],
    inputs: Mapping[str, Sequence[Tensor]] | None = None,
) -> Order:
    """The weights in the order in which a forward pass reaches them.

    Weights of one module form one group, and so do those of successive modules with the same input.

    Args:
        inputs: as of :func:`inputs_in_order`, which is called without them.
    """
    seen = inputs_in_order(problem, sites) if inputs is None else inputs
    module = {site.name: site.uses[0].module for site in sites}
    order: Order = []
    last: tuple[nn.Module, Any] | None = None
    for name, (X, *_) in seen.items():
        own = X.data_ptr(), X._version, X.shape, X.stride()  # all are alive: one tensor has one
        if last is not None and (module[name] is last[0] or own == last[1]):
            order[-1].append(name)
        else:
            order.append([name])
        last = module[name], own
    return order


def _compare(
    problem: CompressionProblem,
    small: nn.Module,
    pairs: Sequence[InputPair],
    following: str | None,
) -> None:
    """Both models forward with every calibration example, up to the weight that follows."""
    sites, here = problem.sites, problem.plain.sites(small)
    both: list[tuple[nn.Module, Any, Any]] = [
        (
            problem.model,
            [(pair.site.uses[0], _InputObserver(pair.dense)) for pair in pairs],
            None if following is None else sites[following].uses[0].module,
        ),
        (
            small,
            [(pair.here.uses[0], _InputObserver(pair.compressed)) for pair in pairs],
            None if following is None else here[following].uses[0].module,
        ),
    ]
    for x, _ in batches(problem.calibration, problem.model):
        for model, observers, end in both:
            with _ending_at(end):
                observe(model, [(x, None)], observers, folding=problem.folding)


class _ForwardEnd(Exception):
    """Raised to end a forward pass at a module whose outputs are not needed."""


@contextmanager
def _ending_at(module: nn.Module | None) -> Iterator[None]:
    """Ends a forward pass within the block where a module would be called."""

    def reached(module: nn.Module, args: Any) -> None:
        raise _ForwardEnd

    with ExitStack() as stack:
        if module is not None:
            stack.enter_context(suppress(_ForwardEnd))
            stack.enter_context(module.register_forward_pre_hook(reached))
        yield


class _InputObserver:
    """An observer of the vectors that a weight is applied to."""

    def __init__(self, see: Callable[[Tensor], None]) -> None:
        self.columns = see

    def picks(self, rows: Tensor) -> None:
        raise AssertionError("only weights that are multiplied with are corrected")

    def output(self, y: Tensor, arrange: Arrange | None = None, *, side: Side = "rows") -> Tensor:
        return y

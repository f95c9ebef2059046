"""Second moments of a weight's inputs and gradients, gathered in passes over data.

The loss near a trained network is about ½ tr(ΔᵀR Δ C) for a change Δ of a weight W (m, n), with C
the second moment on the side of its columns and R on that of its rows: for a linear layer
E[x xᵀ] of its inputs and Σ g gᵀ of the gradients at its outputs. The weighted SVD of W needs of the
longer side only its product with W: if W is wide, W C Wᵀ in place of C. So no matrix is larger
than the shorter side squared, and a table of 50,000 tokens fits.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from svdbench.lowrank.drivers.base import working
from svdbench.lowrank.layers.base import Arrange, Folding, Observer, Side, as_rows, bytes_of
from svdbench.lowrank.layers.weights import FactorableWeight, Use
from svdbench.lowrank.ranks.blocks import Recomputing, blocks_of
from svdbench.lowrank.ranks.curvature import Curvature, needs_teacher, without_targets
from svdbench.lowrank.ranks.evaluation import batch_loss, loss_input
from svdbench.lowrank.ranks.examples import (
    Data,
    DataWarning,
    Loss,
    batches,
    called,
    evaluating,
    give_back,
    size,
)


@dataclass(frozen=True)
class Moments:
    """Of a weight W (m, n) in one use, or of each of its groups.

    With k = min(m, n): the shorter side is that of the columns if m > n, else that of the rows.

    Attributes:
        short: second moment (..., k, k) on the shorter side; None for the identity.
        long: W applied to that on the longer side: (..., k, k); None for that of the identity.
        long_trace: the trace of the longer side's own (...).
        mean: E[x] (..., n) of what W is applied to; None if rows of W are looked up.
    """

    short: Tensor | None
    long: Tensor | None
    long_trace: Tensor | None
    mean: Tensor | None


class Sums:
    """An observer of a weight in one use, that adds up Σ x xᵀ, Σ x and Σ g gᵀ."""

    def __init__(self, site: FactorableWeight, use: Use, gradients: bool) -> None:
        self.site, self.use, self.gradients = site, use, gradients
        self.tall = site.weight.rows > site.weight.columns
        self.short: Side = "columns" if self.tall else "rows"
        self.long: Side = "rows" if self.tall else "columns"
        self.count = 0
        self.total: Tensor | None = None
        self.picked: Tensor | None = None
        self.sums: dict[Side, Tensor] = {}
        self.long_trace: Tensor | None = None

    @torch.inference_mode(False)
    def columns(self, X: Tensor) -> None:
        self.count += X.shape[-2]
        total = working(X).sum(-2).double()
        self.total = total if self.total is None else self.total.add_(total)
        self._add("columns", X)

    @torch.inference_mode(False)
    def picks(self, rows: Tensor) -> None:
        self.count += rows.numel()
        counts = rows.flatten().bincount(minlength=self.site.weight.rows).double()
        self.picked = counts if self.picked is None else self.picked.add_(counts)

    def output(self, y: Tensor, arrange: Arrange | None = None, *, side: Side = "rows") -> Tensor:
        if not self.gradients:
            return y
        y = with_graph(y, self.use.name)

        def hook(g: Tensor) -> None:
            for rows in [as_rows(g.detach())] if arrange is None else arrange(g.detach()):
                self._add(side, rows)

        y.register_hook(hook)
        return y

    def moments(self, examples: int) -> Moments:
        """Means over the rows of inputs; for gradients, sums over the rows of an example."""
        name = self.use.name
        arriving: Side = "columns" if self.picked is None else "rows"
        if self.picked is not None:
            self._count_picks(self.picked)
        leaving: Side = "rows" if arriving == "columns" else "columns"
        if self.gradients and leaving not in self.sums:  # the loss does not depend on it
            nothing = torch.zeros_like(self.sums[arriving])
            self._sum(leaving, nothing, nothing.double().diagonal(0, -2, -1).sum(-1))
        for side, what in self.sums.items():
            if not what.isfinite().all():
                raise ValueError(self._overflow(side == arriving, what.dtype))
            by = self.count if side == arriving else examples
            what.div_(by)
            if side == self.long and self.long_trace is not None:
                self.long_trace.div_(by)
        if self.picked is None and self.count < self.site.weight.columns:
            warnings.warn(
                f"{self.count} calibration rows are fewer than the {self.site.weight.columns} "
                f"inputs of {name}: give more examples",
                DataWarning,
                stacklevel=5,
            )
        mean = None if self.total is None else self.total / self.count
        return Moments(self.sums.get(self.short), self.sums.get(self.long), self.long_trace, mean)

    def _overflow(self, arriving: bool, dtype: torch.dtype) -> str:
        """The cause of a sum of squares that is not finite."""
        name = self.use.name
        if not arriving and self.long_trace is not None and self.long_trace.isfinite().all():
            return (
                f"the gradient at {name}, or the weight, is too large to be squared in {dtype}: "
                "scale the model, or use float64"
            )
        if not arriving:
            return f"the gradient at {name} is not finite: check the loss"
        if self.total is None or self.total.isfinite().all():
            return (
                f"the input of {name} is too large to be squared in {dtype}: scale the inputs, "
                "or use float64"
            )
        return f"the input of {name} is not finite: check the model and its data"

    def _add(self, side: Side, X: Tensor) -> None:
        """XᵀX on the shorter side; on the longer one that of the product with W, and its trace."""
        X = working(X)
        if side == self.short:
            self._sum(side, X.mT @ X)
        else:
            W = self.site.matrix.to(X.dtype)
            P = X @ (W if self.tall else W.mT)
            self._sum(side, P.mT @ P, X.square().sum((-2, -1)).double())

    def _count_picks(self, counts: Tensor) -> None:
        """As :meth:`_add`, for picked rows: their second moment is diagonal."""
        W = self.site.matrix
        if self.tall:
            W = working(W)
            self._sum("rows", W.mT @ (W * counts.to(W.dtype).unsqueeze(1)), counts.sum())
        else:
            self._sum("rows", torch.diag(counts))

    def _sum(self, side: Side, product: Tensor, trace: Tensor | None = None) -> None:
        if side in self.sums:
            self.sums[side].add_(product)
        else:
            self.sums[side] = product
        if side == self.long and trace is not None:
            self.long_trace = trace if self.long_trace is None else self.long_trace.add_(trace)


def with_graph(y: Tensor, name: str) -> Tensor:
    """The output of a weight with a graph, which begins there where nothing before it has one.

    Raises:
        ValueError: gradients are switched off, with the weight's name.
    """
    if not torch.is_grad_enabled():
        raise ValueError(
            f"{name} is used under torch.no_grad(), where there is no gradient: take "
            "that out of the model's forward, or choose kind=whitened, which needs none"
        )
    # A copy of the leaf, which an activation may then overwrite.
    return y if y.requires_grad else y.detach().requires_grad_().clone()


def precision(A: Tensor) -> torch.dtype:
    """The dtype of sums: never half precision."""
    return working(A.new_empty(0)).dtype


NO_GRADIENT = (
    "the loss has no gradient in the model: take torch.no_grad(), detach() and item() out of the "
    "model and the loss"
)


@dataclass
class Pass:
    """A pass over data: how many examples there were, and whether any loss had a gradient."""

    examples: int = 0
    backward: bool = False


def calibrate(
    model: nn.Module,
    data: Data,
    loss: Loss | None,
    weights: Sequence[FactorableWeight],
    *,
    curvature: Curvature | None = None,
    budget: int | None = None,
    blockwise: bool = False,
) -> Iterator[tuple[FactorableWeight, list[Moments]]]:
    """The moments of weights, for each use of each, by forward passes and, with a loss, backward.

    Activations and gradients are added up batch by batch and not kept. The moments of some
    weights at a time are made in one pass over the data, and given out before the next pass.
    The model is in evaluation mode meanwhile and comes back as it was; no gradient of a weight
    is formed.

    Args:
        data: calibration examples.
        loss: the mean over a batch; without one there is no backward pass.
        curvature: of the loss, which what is propagated back comes from; by default its gradients.
        weights: of the model; one that no row reaches is left out.
        budget: bytes of moments at a time, but for a single weight, roughly; by default half of
            those of the model's parameters, as spectra that take the place of moments are
            smaller. Data that can be read only once takes one pass, without this limit.
        blockwise: see :func:`observe`.

    Warns where a weight has more columns than rows came in: E[x xᵀ] is singular then, and the
    damping decides about the directions that were not seen.

    Raises:
        ValueError: NaN or infinity among inputs, activations, losses or gradients; a loss that
            has no gradient; no examples.

    Source: Martens and Grosse, "Optimizing neural networks with Kronecker-factored
    approximate curvature", ICML 2015, for C ⊗ R as the curvature of a layer.
    """
    if budget is None:
        budget = bytes_of(model) // 2
    groups = [list(weights)] if isinstance(data, Iterator) else _passes(weights, budget)
    for group in groups:
        sums = {site: [Sums(site, use, loss is not None) for use in site.uses] for site in group}
        observers = [(each.use, each) for each in chain.from_iterable(sums.values())]
        seen = observe(
            model,
            data,
            observers,
            folding=group[0].folding,
            loss=loss,
            curvature=curvature,
            blockwise=blockwise,
        )
        del observers
        if (
            loss is not None
            and not seen.backward
            and any(each.count for each in chain(*sums.values()))
        ):
            raise ValueError(f"{NO_GRADIENT}, or choose kind=whitened, which needs none")
        for site in group:
            give_back()
            found = [each.moments(seen.examples) for each in sums.pop(site) if each.count]
            if len(found) == len(site.uses):
                yield site, found


def observe(
    model: nn.Module,
    data: Data,
    observers: Sequence[tuple[Use, Observer]],
    *,
    folding: Folding,
    loss: Loss | None = None,
    curvature: Curvature | None = None,
    blockwise: bool = False,
) -> "Pass":
    """One pass over the data, forward and with a loss backward, as observers look on.

    Args:
        observers: of uses of the model's weights.
        folding: of convolutions.
        loss: the mean over a batch.
        curvature: of it, whose directions are propagated back; by default its gradients are.
        blockwise: keeps of each of the model's blocks only what comes into it, and computes the
            block again in the backward pass, see :func:`svdbench.lowrank.ranks.blocks.blocks_of`.

    Raises:
        ValueError: NaN or infinity among inputs, or losses of batches; no examples.
    """
    of_module: dict[nn.Module, tuple[Use, dict[str, Observer]]] = {}
    recomputing = Recomputing()
    for use, observer in observers:
        if blockwise:
            observer = recomputing.once(observer)
        of_module.setdefault(use.module, (use, {}))[1][use.part.own] = observer
    found, uncounted, number = Pass(), list[int](), -1
    empty = 0
    if curvature is not None:
        curvature.restart()
    with ExitStack() as stack:
        stack.enter_context(_watchable(model))
        stack.enter_context(torch.set_grad_enabled(loss is not None))
        for use, each in of_module.values():
            stack.enter_context(use.kind.watch(use.module, each, folding))
        if blockwise and loss is not None:
            stack.enter_context(recomputing.of(blocks_of(model)))
        for number, (x, y) in enumerate(batches(data, model)):
            found.examples += size(x)
            output = called(model, x)
            if loss is not None:
                output = loss_input(loss, output)
                if needs_teacher(loss):
                    y = output.detach()
                value = batch_loss(loss, output, y)
                empty += without_targets(loss, y)
                if not value.isfinite():
                    uncounted.append(number)
                elif value.requires_grad:  # not if none of the weights was used
                    if curvature is None:
                        # Of a mean over the batch: times B, gradients are an example's own.
                        (value * size(x)).backward()
                    else:
                        curvature.backward(output, y, value, size(x))
                    found.backward = True
                del value
            del output
            give_back()
    if uncounted:
        raise ValueError(
            f"the loss is not a finite number on {len(uncounted):,} of {number + 1:,} calibration "
            f"batches ({found.examples:,} examples), the first of them batch "
            f"{uncounted[0]}: leave out batches without a target that counts (all are "
            "-100), and check the loss"
        )
    if empty:
        raise ValueError(
            f"{empty:,} of {found.examples:,} calibration examples have no target that counts (all "
            "are -100): leave them out"
        )
    return found


def _passes(weights: Sequence[FactorableWeight], budget: int) -> list[list[FactorableWeight]]:
    """The weights in the fewest groups whose moments fit into so many bytes, of about one size."""
    bytes_of_each = [_bytes(site) for site in weights]
    total, before = sum(bytes_of_each), 0.0
    count = math.ceil(total / max(budget, 1))
    groups: dict[int, list[FactorableWeight]] = {}
    for site, size_of_it in zip(weights, bytes_of_each, strict=True):
        groups.setdefault(int((before + size_of_it / 2) * count / total), []).append(site)
        before += size_of_it
    return list(groups.values())


def _bytes(site: FactorableWeight) -> int:
    """Of the moments of a weight, two of the shorter side for each use."""
    each, number = site.weight, precision(site.matrix).itemsize
    return 2 * min(each.rows, each.columns) ** 2 * each.groups * len(site.uses) * number


@contextmanager
def _watchable(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients of parameters, and no fast paths around modules."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        # cuDNN's recurrent layers have no backward pass in evaluation mode.
        cudnn = torch.backends.cudnn.enabled and not recurrent
        with evaluating(model), torch.backends.cudnn.flags(enabled=cudnn):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for parameter in trained:
            parameter.requires_grad_(True)

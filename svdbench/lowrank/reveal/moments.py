"""Second moments of what passes through a weight, as far as its spectrum needs them.

The loss near a trained network is about ½ tr(ΔᵀR Δ C) for a change Δ of a weight W (m, n), with C
the second moment on the side of its columns and R on that of its rows: for a linear layer
E[x xᵀ] of what comes in and Σ g gᵀ of the gradients at what comes out. The weighted SVD of W needs
of the longer side only its product with W: of C, if W is wide, W C Wᵀ. So nothing larger than
the shorter side squared is ever formed, and a table of 50,000 tokens is no trouble.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from svdbench.lowrank.drivers.base import working
from svdbench.lowrank.layers.base import Arrange, Side, as_rows
from svdbench.lowrank.layers.weights import FactorableWeight, Use
from svdbench.lowrank.reveal.examples import DataWarning


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
        if not torch.is_grad_enabled():
            raise ValueError(
                f"{self.use.name} is used under torch.no_grad(), where there is no gradient: take "
                "that out of the model's forward, or choose kind=whitened, which needs none"
            )
        if not y.requires_grad:  # nothing before it has a gradient: the graph begins here
            # A copy of the leaf, which an activation may then overwrite.
            y = y.detach().requires_grad_().clone()

        def hook(g: Tensor) -> None:
            for rows in [as_rows(g.detach())] if arrange is None else arrange(g.detach()):
                self._add(side, rows)

        y.register_hook(hook)
        return y

    def moments(self, examples: int) -> Moments:
        """Means over rows of what comes in, sums over the rows of an example of gradients."""
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
        """What is wrong where a sum of squares is not finite."""
        name = self.use.name
        if not arriving and self.long_trace is not None and self.long_trace.isfinite().all():
            return (
                f"the gradient at {name}, or the weight, is too large to be squared in {dtype}: "
                "scale the model, or use float64"
            )
        if not arriving:
            return f"the gradient at {name} is not finite: look at the loss"
        if self.total is None or self.total.isfinite().all():
            return (
                f"what comes into {name} is too large to be squared in {dtype}: scale the inputs, "
                "or use float64"
            )
        return f"what comes into {name} is not finite: look at the model and its data"

    def _add(self, side: Side, X: Tensor) -> None:
        """XᵀX on the shorter side; on the longer one that of what W makes of X, and its trace."""
        X = working(X)
        if side == self.short:
            self._sum(side, X.mT @ X)
        else:
            W = self.site.matrix.to(X.dtype)
            P = X @ (W if self.tall else W.mT)
            self._sum(side, P.mT @ P, X.square().sum((-2, -1)).double())

    def _count_picks(self, counts: Tensor) -> None:
        """The same for rows that are picked: their second moment is diagonal."""
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


def precision(A: Tensor) -> torch.dtype:
    """What is added up in: not half precision."""
    return working(A.new_empty(0)).dtype

"""``certify``: the smallest point of a frontier whose measured loss increase is allowed."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from svdbench.lowrank.ranks.frontier import Frontier, Ranks

# The loss of each example (N,) with the network at some ranks; all None is the dense one.
Evaluate = Callable[[Ranks], Tensor]

# Points below the one that bisection found which are tried too.
NEIGHBOURS = 2


@dataclass(frozen=True)
class Increase:
    """The increase of a network's loss over the dense one, example by example.

    Attributes:
        mean: mean of the differences.
        standard_error: standard error of that mean; differences between examples cancel in pairs.
        examples: number of pairs.
        dense: the dense network's mean loss on them.

    Example:
        >>> Increase.of(torch.tensor([1.5, 2.5]), dense=torch.tensor([1.0, 2.0])).mean
        0.5
    """

    mean: float
    standard_error: float
    examples: int
    dense: float

    @classmethod
    def of(cls, losses: Tensor, dense: Tensor) -> "Increase":
        """Compute it from the losses (N,) of the same examples.

        Raises:
            ValueError: different numbers of losses, or none.
        """
        if losses.shape != dense.shape or losses.ndim != 1 or not len(losses):
            raise ValueError(
                f"there are losses of shape {tuple(losses.shape)} and {tuple(dense.shape)}: give "
                "one for each example"
            )
        difference = losses.double() - dense.double()
        n = len(difference)
        error = float(difference.std()) / math.sqrt(n) if n > 1 else math.inf
        return cls(float(difference.mean()), error, n, float(dense.double().mean()))


@dataclass(frozen=True)
class Certificate:
    """Chosen ranks, and their measured increase of the loss.

    Attributes:
        ranks, params, predicted_loss: ranks, size and predicted loss increase of the point.
        max_loss_increase: the allowed increase; infinity if another budget was given.
        search: the increase on the examples of the search, an optimistic estimate.
        held_out: the increase on held-out examples; None if there were none.
        evaluations: number of evaluations of the true loss, on both sets.

    Example:
        >>> net, X = torch.nn.Sequential(torch.nn.Linear(20, 30)), torch.randn(64, 20)
        >>> found = compress(net, (X, torch.randn(64, 30)), params=0.5, skip_last=False)
        >>> found.certificate.max_loss_increase
        inf
    """

    ranks: Ranks
    params: int
    predicted_loss: float
    max_loss_increase: float
    search: Increase
    held_out: Increase | None
    evaluations: int

    @property
    def confirmed(self) -> bool:
        """Whether the mean increase on the held-out examples is allowed.

        ``held_out.standard_error`` gives its uncertainty.
        """
        return self.held_out is not None and self.held_out.mean <= self.max_loss_increase


def certify(
    frontier: Frontier,
    evaluate: Evaluate,
    *,
    max_loss_increase: float,
    held_out: Evaluate | None = None,
) -> Certificate:
    """Find the smallest point of the frontier whose true loss increase is at most the given one.

    Bisects the points, because the loss falls with size except for noise, then tries the next two
    smaller ones. Takes at most ⌈log₂ P⌉ + 5 evaluations for P points, including that of the dense
    network and two on the held-out examples.

    Args:
        evaluate: such as ``lambda ranks: example_losses(frontier.view(model, ranks), data, loss)``.
            A loss that is not finite counts as too high.
        max_loss_increase: largest increase of the mean loss, in the loss's unit, 0 or more.
        held_out: the same on examples used neither for calibration nor in ``evaluate``; they
            evaluate the chosen point only.

    Raises:
        ValueError: ``max_loss_increase`` below 0, not one loss per example, or a loss of the dense
            network that is not finite.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
        >>> X, y = torch.randn(64, 20), torch.randint(4, (64,))
        >>> loss = nn.functional.cross_entropy
        >>> frontier = rank_frontier(net, (X, y), loss)
        >>> losses = lambda ranks: example_losses(frontier.view(net, ranks), (X, y), loss)
        >>> certify(frontier, losses, max_loss_increase=0.1).search.mean <= 0.1
        True
    """
    if not max_loss_increase >= 0:
        raise ValueError(f"max_loss_increase is {max_loss_increase:g}: give 0 or more")
    last = len(frontier.points.params) - 1  # which is dense, and loses nothing
    dense = check_losses(evaluate(frontier.ranks_at(last)), "search")
    seen = {last: Increase.of(dense, dense)}

    def fits(point: int) -> bool:
        seen[point] = Increase.of(evaluate(frontier.ranks_at(point)), dense)
        return seen[point].mean <= max_loss_increase

    low, best = 0, last
    while low < best:
        middle = (low + best) // 2
        if fits(middle):
            best = middle
        else:
            low = middle + 1
    # best − 1 is too small, as bisection has seen; a step further down may do again.
    below = [p for p in range(best - 2, best - 2 - NEIGHBOURS, -1) if p >= 0 and p not in seen]
    best = min([best, *(p for p in below if fits(p))])

    ranks, confirmation = frontier.ranks_at(best), None
    if held_out is not None:
        confirmation = _increase(held_out, frontier, ranks, "held-out")
    return Certificate(
        ranks=ranks,
        params=int(frontier.points.params[best]),
        predicted_loss=float(frontier.points.losses[best]),
        max_loss_increase=max_loss_increase,
        search=seen[best],
        held_out=confirmation,
        evaluations=len(seen) + 2 * (held_out is not None),
    )


def judge(
    frontier: Frontier,
    ranks: Ranks,
    evaluate: Evaluate,
    *,
    held_out: Evaluate | None = None,
    max_loss_increase: float = math.inf,
) -> Certificate:
    """The increase of the loss by any ranks, as :func:`certify` measures it."""
    return Certificate(
        ranks=ranks,
        params=frontier.params(ranks),
        predicted_loss=frontier.predicted_loss(ranks),
        max_loss_increase=max_loss_increase,
        search=_increase(evaluate, frontier, ranks, "search"),
        held_out=None if held_out is None else _increase(held_out, frontier, ranks, "held-out"),
        evaluations=2 + 2 * (held_out is not None),
    )


def _increase(evaluate: Evaluate, frontier: Frontier, ranks: Ranks, examples: str) -> Increase:
    dense = check_losses(evaluate(dict.fromkeys(frontier.layers)), examples)
    return Increase.of(evaluate(ranks), dense)


def check_losses(dense: Tensor, part: str, unit: str = "example") -> Tensor:
    """The losses of the dense network, which must be finite.

    Args:
        part: what the examples are for, for the message.
        unit: what each is of, an example or a batch.

    Raises:
        ValueError: some are not, with how many.
    """
    if not dense.isfinite().all():
        (wrong,) = (~dense.isfinite().flatten()).nonzero(as_tuple=True)
        units = "batches" if unit == "batch" else f"{unit}s"
        raise ValueError(
            f"the loss of the dense model is not a finite number on {len(wrong):,} of "
            f"{dense.numel():,} {part} {units}, the first of them {unit} {int(wrong[0])}: "
            f"leave out {units} without a target that counts (all are -100), and check the loss"
        )
    return dense

"""Ways to train a network in fewer numbers or multiplications.

To add one, define a subclass of :class:`LowRankArm` with a ``name`` beside this file and add a YAML
of that name to ``conf/arm``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from svdbench.lowrank import Factored, factor, unfactor
from svdbench.lowrank.layers.factor import RankRule, decide, factors_of
from svdbench.lowrank.layers.weights import FactorableWeight, copied, exchanged, with_factors

# Makes the optimiser of a network's parameters, as the configuration has it.
MakeOptimizer = Callable[[nn.Module], Optimizer]


@dataclass(frozen=True)
class ArmPlan:
    """What an arm is asked for.

    Attributes:
        rule: the rank of each weight, or None to leave it dense.
        skip_last, only_if_saves: see :func:`svdbench.lowrank.factor`.
        phi: the part of the budget before the switch, for arms that have one.
        carry_moments: whether the optimiser's moments are kept where the network changes.
        decay: λ of the weight decay of the configuration.
        seed: of what the arm draws.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.Linear(30, 4))
        >>> plan = ArmPlan(lambda weight: 5)
        >>> [found.rank for found in plan.weights(net)]
        [5, None]
    """

    rule: RankRule
    skip_last: bool = True
    only_if_saves: bool = True
    phi: float = 0.0
    carry_moments: bool = True
    decay: float = 0.0
    seed: int = 0

    def weights(self, network: nn.Module) -> list[Factored]:
        """The rank of each weight of a dense network, or why it stays dense."""
        return [found for _, found in self.chosen(network)]

    def chosen(self, network: nn.Module) -> list[tuple[FactorableWeight, Factored]]:
        """The same, with where each weight stands."""
        return decide(
            network, self.rule, skip_last=self.skip_last, only_if_saves=self.only_if_saves
        )

    def truncated(self, network: nn.Module) -> nn.Module:
        """A copy whose weights are replaced by two factors each, by truncated SVDs."""
        return factor(
            network, self.rule, skip_last=self.skip_last, only_if_saves=self.only_if_saves
        )[0]

    def random(self, network: nn.Module) -> nn.Module:
        """A copy whose weights are replaced by two random factors each: :func:`random_factors`."""
        draw = self.generator(network)
        chosen = [
            (site, factors_of(site, *random_factors(site.matrix, found.rank, draw)))
            for site, found in self.chosen(network)
            if found.rank is not None
        ]
        return copied(with_factors(network, chosen))

    def linear(self, network: nn.Module) -> dict[nn.Linear, int]:
        """The linear layers that are to have a low rank, and that rank; others stay dense."""
        found: dict[nn.Linear, int] = {}
        for site, decision in self.chosen(network):
            module = site.uses[0].module
            if decision.rank is not None and type(module) is nn.Linear and len(site.uses) == 1:
                found[module] = decision.rank
        if not found:
            raise ValueError("no linear layer would have a low rank: use an arm in factors")
        return found

    def generator(self, network: nn.Module) -> torch.Generator:
        """Seeded, on the network's device."""
        return torch.Generator(next(network.parameters()).device).manual_seed(self.seed)


@torch.no_grad()
def random_factors(
    W: Tensor, rank: int, generator: torch.Generator, gain: float = 1.0
) -> tuple[Tensor, Tensor]:
    """U (m, rank) and V (rank, n), normal, whose product has the variance of W (m, n).

    std(V) = n^−½ and std(U) = std(W)/(std(V)√rank), times ``gain``.

    Args:
        W: (m, n), or (groups, m, n).
    """
    *lead, m, n = W.shape
    U, V = W.new_empty(*lead, m, rank), W.new_empty(*lead, rank, n)
    U.normal_(0, gain * float(W.std(correction=0)) * sqrt(n / rank), generator=generator)
    V.normal_(0, n**-0.5, generator=generator)
    return U, V


@dataclass
class ArmState:
    """How far a training is.

    Attributes:
        done: the part of the budget that is spent, from 0 to 1.
        epoch: epochs, or rounds, so far.

    Example:
        >>> state = ArmState(done=0.25, epoch=3)
        >>> 1 - state.done  # of a setting that goes from 1 to 0
        0.75
    """

    done: float = 0.0
    epoch: int = 0


class LowRankArm(ABC):
    """A way to train a network in fewer numbers or multiplications.

    Define ``changed``, and ``changes`` unless the network changes once, before the first step.
    An instance trains one network: svdbench makes one for each arm and seed. All arms start from
    the same dense weights and see the same batches.

    Class attributes:
        title: as reports name it.
        source: where the method comes from.
        takes_alpha: whether the ranks of α are its ranks.
        takes_phi: whether it has dense steps first, for each φ.
        truncates: whether the first change replaces weights by the nearest of low rank.

    Example:
        .. code-block:: python

            import torch
            from svdbench.extend import LowRankArm

            class Orthonormal(LowRankArm):
                title, source = "orthonormal factors", "made up"

                def changed(self, network, plan, number):
                    small = plan.random(network)  # a copy in factors of the ranks asked for
                    for name, factor in small.named_parameters():
                        if name.endswith("W2"):
                            factor.data = torch.linalg.qr(factor.data.mT).Q.mT.contiguous()
                    return small
    """

    title: ClassVar[str]
    source: ClassVar[str]
    takes_alpha: ClassVar[bool] = True
    takes_phi: ClassVar[bool] = False
    truncates: ClassVar[bool] = False

    def check(self, network: nn.Module, plan: ArmPlan) -> list[Factored]:
        """What becomes of each weight of a network, before any training.

        Raises:
            ValueError: the arm does not apply to this network.
        """
        return plan.weights(network)

    def changes(self, plan: ArmPlan) -> tuple[float, ...]:
        """The parts of the budget after which the network changes, ascending; 0: at the start."""
        return (0.0,)

    @abstractmethod
    def changed(self, network: nn.Module, plan: ArmPlan, number: int) -> nn.Module:
        """The network after change ``number``, counted from 0; the one given stays as it is."""

    def optimizer(
        self, before: Optimizer, old: nn.Module, new: nn.Module, plan: ArmPlan, make: MakeOptimizer
    ) -> Optimizer:
        """The optimiser after a change; by default a new one, ``make(new)``."""
        return make(new)

    def before_step(self, network: nn.Module, state: ArmState) -> None:  # noqa: B027
        """Called before every forward pass."""

    def before_update(self, network: nn.Module, plan: ArmPlan) -> None:  # noqa: B027
        """Called after every backward pass: the gradients are there."""

    def wants_change(self, network: nn.Module, state: ArmState) -> bool:
        """Whether to change after this epoch, for changes whose time is not known before."""
        return False

    def dense(self, network: nn.Module) -> nn.Module:
        """The network as it would be used: a copy with all factors multiplied out."""
        return unfactor(network)


def overrides(arm: LowRankArm, hook: str) -> bool:
    """Whether an arm does something in a hook."""
    return getattr(type(arm), hook) is not getattr(LowRankArm, hook)


def exchanged_layers(network: nn.Module, new: Iterable[tuple[nn.Module, nn.Module]]) -> nn.Module:
    """An independent copy of a network with other modules in some places."""
    return copied(exchanged(network, dict(new)))

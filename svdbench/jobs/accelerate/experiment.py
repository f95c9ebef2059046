"""The arms of ``svdbench accelerate``: what makes each, and what they have in common."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from svdbench.config.base import Dtype
from svdbench.jobs.accelerate import Accelerate, DecayOf, Start, TrainingBudget
from svdbench.jobs.accelerate.arms.base import ArmPlan, LowRankArm
from svdbench.jobs.accelerate.costs import StepSchedule, alpha_rule, layer_rule, multiplications
from svdbench.jobs.accelerate.moments import factors_in
from svdbench.jobs.accelerate.trained import StagedArm
from svdbench.lowrank import Factored
from svdbench.lowrank.layers.factor import RankRule
from svdbench.measure.clock import Clock
from svdbench.members import ARMS, refuse_repeated
from svdbench.running.session import load
from svdbench.side_by_side import session as side_by_side
from svdbench.side_by_side.execution import Execution
from svdbench.side_by_side.families import NetworkFamily
from svdbench.side_by_side.networks import linear_layers
from svdbench.training.config import OptimizerConfig
from svdbench.training.learner import network_optimizer

DENSE, RIVAL = "DNN", "narrow_dnn"
ROUNDS = 10


@dataclass(frozen=True)
class AccelerateSetting:
    """What makes an arm: how it trains, at which ranks, and after what share of the budget.

    Attributes:
        method: the member, or ``dnn``, or ``narrow_dnn`` for a smaller dense network.
        alpha: None where each layer has a rank of its own, or stays dense.
        phi: None where there is no such share; 1 is dense throughout.
        rule: of the ranks.
        layers: what becomes of each.
        options: of :func:`svdbench.lowrank.factor`.
        title: of the member.
        member: makes it; None for dense networks.
        family: of a smaller network.
        share: of its hidden widths.
    """

    method: str = "dnn"
    alpha: float | None = None
    phi: float | None = 1.0
    rule: RankRule = lambda weight: None
    layers: list[Factored] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    title: str = DENSE
    member: Callable[[], LowRankArm] | None = None
    family: NetworkFamily | None = None
    share: float = 1.0

    @property
    def ranks(self) -> str | None:
        """As 154-85-none; None of an arm whose layers are dense or not yet known."""
        if all(layer.rank is None for layer in self.layers):
            return None
        return "-".join(str(layer.rank or "none") for layer in self.layers)

    @property
    def label(self) -> str:
        if self.member is None:
            return self.title if self.family is None else f"{self.title} {self.family.label}"
        kept = f"α {self.alpha:g}" if self.alpha is not None else self.ranks
        name = f"{self.title} {kept}" if kept else self.title
        return name if self.phi is None else f"{name}, φ {100 * self.phi:g} %"


class AccelerateExperiment(side_by_side.Experiment[Accelerate, AccelerateSetting]):
    usual_epochs, least_steps = 20, 200

    @property
    def epochs(self) -> int:
        """Epochs, or with a budget of seconds the rounds that take their place."""
        if self.config.budget_of is TrainingBudget.seconds:
            return self.config.epochs or ROUNDS
        return super().epochs

    @property
    def preparations(self) -> int:
        return int(
            self.config.with_rivals or self.config.budget_of is TrainingBudget.seconds
        ) + int(self.config.lrs is not None)

    @cached_property
    def execution(self) -> Execution:
        """How the steps of all arms are computed."""
        config = self.config
        autocast = torch.bfloat16 if config.dtype is Dtype.bfloat16 else None
        return Execution(autocast, config.compile)

    def built(self, setting: AccelerateSetting) -> nn.Module:
        """The dense network of an arm, with weights drawn from torch's generator."""
        network = (setting.family or self.family).build()
        if self.config.start is Start.glorot:
            for layer in linear_layers(network).values():
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        return self.placed(network)

    def plan(self, setting: AccelerateSetting, seed: int) -> ArmPlan:
        config = self.config
        return ArmPlan(
            setting.rule,
            phi=setting.phi or 0.0,
            carry_moments=config.carry_moments,
            decay=config.optimizer.weight_decay,
            seed=seed,
            **setting.options,
        )

    def arm(
        self,
        setting: AccelerateSetting,
        seed: int,
        network: nn.Module,
        *,
        budget: float,
        costs: list[float] | None = None,
        changes: tuple[float, ...] | None = None,
        lr: float | None = None,
        cost: Callable[[StagedArm], float] = lambda arm: 1.0,
    ) -> "AccelerateArm":
        """An arm that is about to begin.

        Args:
            budget, costs: see :class:`StepSchedule`; without costs, a budget of steps.
            changes: in place of the member's own.
            lr: in place of the configuration's.
        """
        plan, config = self.plan(setting, seed), self.config
        member = None if setting.member is None else setting.member()
        if changes is None:
            changes = () if member is None else member.changes(plan)
        schedule = StepSchedule(budget, changes, costs or [1.0] * (len(changes) + 1))
        of_product = config.decay is DecayOf.product
        return AccelerateArm(
            setting,
            seed,
            network,
            partial(optimizer_of, config=config.optimizer, lr=lr, of_product=of_product),
            (setting.family or self.family).loss,
            method=member,
            plan=plan,
            schedule=schedule,
            product_decay=config.optimizer.weight_decay if of_product else 0.0,
            cost=cost,
            execution=self.execution,
        )

    def multiplications(self, network: nn.Module) -> float:
        """Of a training step of a network, per example."""
        X, y = (part[: self.batch_size] for part in self.train)
        X = X.detach().requires_grad_(self.config.input_gradient)
        return multiplications(network, X, y, self.family.loss)

    def refuse_optimizer(self, setting: AccelerateSetting) -> None:
        """Raise ValueError if an arm can't use the chosen optimiser after its switch."""
        arm = self.arm(setting, 0, self.built(setting), budget=1)
        if arm.method is not None and arm.schedule.changes:
            new = arm.method.changed(arm.network, arm.plan, 0)
            arm.method.optimizer(arm.optimizer, arm.network, new, arm.plan, arm.make)

    def counted(self, setting: AccelerateSetting, clock: Clock) -> list[float]:
        """The multiplications of a training step of an arm in each of its stages, per example."""
        arm = self.arm(setting, 0, self.built(setting), budget=1)
        found = []
        for stage in range(len(arm.schedule.costs)):
            arm.advance(stage, clock)
            found.append(self.multiplications(arm.network))
        return found


class AccelerateArm(StagedArm):
    """An arm of the experiment, with what makes it."""

    def __init__(
        self, setting: AccelerateSetting, seed: int, *positional: Any, **options: Any
    ) -> None:
        super().__init__(setting.label, *positional, **options)
        self.setting, self.seed = setting, seed


def optimizer_of(
    network: nn.Module, config: OptimizerConfig, lr: float | None, of_product: bool
) -> Optimizer:
    """The optimiser of all parameters; with a decay of the product, without one of factors."""
    made = network_optimizer(network, config)
    if lr is not None:
        for group in made.param_groups:
            group["lr"] = lr
    factors = {id(p) for p in factors_in(network)} if of_product and config.weight_decay else ()
    if factors:
        [group] = made.param_groups
        own = [p for p in group["params"] if id(p) in factors]
        group["params"] = [p for p in group["params"] if id(p) not in factors]
        made.add_param_group({**group, "params": own, "weight_decay": 0.0})
    return made


def settings_of(config: Accelerate, family: NetworkFamily) -> list[AccelerateSetting]:
    """The dense network, and the arms in low rank, each tried on a network.

    Raises:
        ValueError: an arm does not apply to it, or would leave all of it as it is.
    """
    network = family.build()
    meaning = config.alpha_meaning.value
    options: dict[str, Any] = {"skip_last": config.skip_last, "only_if_saves": config.only_if_saves}
    rules: list[tuple[float | None, RankRule]]
    if config.ranks is not None:
        ranks = [None if rank.lower() == "none" else int(rank) for rank in config.ranks]
        # A rank for the last layer says that it is meant.
        options["skip_last"] = False
        names = [found.weight.name for found in ArmPlan(lambda weight: None).weights(network)]
        rules = [(None, layer_rule(ranks, names))]
    else:
        # At α = 1 factors save nothing, and the dense network is there.
        alphas = [alpha for alpha in config.alphas if alpha < 1 or not config.only_if_saves]
        if not alphas:
            raise ValueError("alphas is 1, which is the dense network: give a smaller --alpha, too")
        rules = [(alpha, alpha_rule(alpha, meaning)) for alpha in alphas]
    found = [AccelerateSetting()]
    for name in config.arms:
        make = partial(load, ARMS, name, config.arm)
        member: LowRankArm = make()
        title = member.title if ARMS.is_ours(name) else name
        own = rules if member.takes_alpha else [(None, lambda weight: None)]
        for alpha, rule in own:
            try:
                layers = member.check(network, ArmPlan(rule, **options))
            except ValueError as error:
                raise ValueError(f"{title}: {error}") from error
            if member.takes_alpha:
                _refuse_dense(ArmPlan(rule, **options), network)
            for phi in config.phis if member.takes_phi else [None]:
                found.append(
                    AccelerateSetting(name, alpha, phi, rule, layers, options, title, make)
                )
    refuse_repeated("the list of arms", [each.label for each in found])
    return found


def _refuse_dense(plan: ArmPlan, network: nn.Module) -> None:
    layers = plan.weights(network)
    if all(layer.rank is None for layer in layers):
        shapes = ", ".join(f"{each.weight.columns}×{each.weight.rows}" for each in layers)
        raise ValueError(
            f"no layer of {shapes} would be factored: "
            f"{'; '.join(dict.fromkeys(layer.reason for layer in layers))}: "
            "give a smaller --alpha, or other --ranks"
        )


def drawn(experiment: AccelerateExperiment, setting: AccelerateSetting, seed: int) -> nn.Module:
    """The dense network of an arm, as every arm of a seed with its sizes begins."""
    torch.manual_seed(seed)
    return experiment.built(setting)

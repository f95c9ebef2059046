"""The arms of ``svdbench accelerate``, and what all of its seeds have in common."""

from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from svdbench.jobs.accelerate.config import Accelerate, Start
from svdbench.jobs.accelerate.ranks import multiplications
from svdbench.jobs.accelerate.svd_dnn import SvdDnn, switch_step
from svdbench.lowrank import Factored, factor
from svdbench.lowrank.layers.factor import RankRule
from svdbench.side_by_side import session as side_by_side
from svdbench.side_by_side.arms import EpochScores
from svdbench.side_by_side.networks import Loss, linear_layers, loss_for, mlp

DENSE = "DNN"


@dataclass(frozen=True)
class AccelerateSetting:
    """What makes an arm: how many singular values are kept, and after what share of the steps.

    Attributes:
        alpha: None where each layer has a rank of its own, or stays dense.
        phi: 1 is dense throughout.
        rule: of the ranks.
        layers: what becomes of each.
        options: of :func:`svdbench.lowrank.factor`.
    """

    alpha: float | None = None
    phi: float = 1.0
    rule: RankRule = lambda weight: None
    layers: list[Factored] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def dense(self) -> bool:
        return not self.layers

    @property
    def ranks(self) -> str | None:
        """As 154-85-none; None of the dense arm."""
        return "-".join(str(layer.rank or "none") for layer in self.layers) or None

    @property
    def label(self) -> str:
        if self.dense:
            return DENSE
        kept = self.ranks if self.alpha is None else f"α {self.alpha:g}"
        return f"SVD-DNN {kept}, φ {100 * self.phi:g} %"


class AccelerateExperiment(side_by_side.Experiment[Accelerate, AccelerateSetting]):
    usual_epochs, least_steps = 20, 200

    def network(self) -> nn.Module:
        """With weights drawn from torch's generator."""
        X = self.train[0]
        network = mlp(self.sizes, self.config.activation)
        if self.config.start is Start.glorot:
            for layer in linear_layers(network).values():
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        return network.to(X.device, X.dtype)

    def counted(self) -> dict[str, float]:
        """The multiplications of a training step of each setting, by its label, per example."""
        X, y = (part[: self.batch_size] for part in self.train)
        X = X.detach().requires_grad_(self.config.input_gradient)
        network, loss = self.network(), loss_for(self.sizes[-1])
        return {
            setting.label: multiplications(
                factor(network, setting.rule, **setting.options)[0], X, y, loss
            )
            for setting in self.settings
        }


class TimedArm(SvdDnn):
    """An arm of the experiment, with its epochs.

    Args:
        network, optimizer, loss: as of every arm.
        carry: whether the optimiser's moments are carried over the switch.
    """

    def __init__(
        self,
        setting: AccelerateSetting,
        seed: int,
        network: nn.Module,
        optimizer: Optimizer,
        loss: Loss,
        *,
        steps: int,
        carry: bool,
    ) -> None:
        super().__init__(
            setting.label,
            network,
            optimizer,
            loss,
            ranks=setting.rule,
            switch=switch_step(setting.phi, steps),
            carry=carry,
            **setting.options,
        )
        self.setting = setting
        self.seed = seed
        self.history: list[EpochScores] = []

    def seconds(self) -> float:
        """Of all epochs so far, and of the switch."""
        return sum(done.seconds for done in self.history) + (self.switch_s or 0.0)

"""A model that learns one minibatch at a time, and the optimisers it learns by."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from svdbench.errors import UserError
from svdbench.models.base import SequenceModel
from svdbench.tasks.base import Batch, Task
from svdbench.training.config import SGD, Adam, OptimizerConfig, RMSprop, Schedule

from . import checkpoint
from .parallel import ALONE, Ranks


def model_optimizer(model: SequenceModel, config: OptimizerConfig) -> Optimizer:
    """The optimiser of the parameters of ``model``: the orthogonal ones with their own rate.

    Those that the model moves itself are left out. Weight decay is for the others alone:
    the length of a reflector means nothing, and an orthogonal matrix has no size to lose.
    """
    parameters = model.parameter_groups()
    groups: list[dict[str, Any]] = [
        {"params": parameters["other"], "lr": config.lr, "weight_decay": config.weight_decay}
    ]
    if parameters["orthogonal"] and not model.own_step:
        groups.append({"params": parameters["orthogonal"], "lr": orthogonal_lr(config)})
    return _of_kind(groups, config)


def network_optimizer(network: nn.Module, config: OptimizerConfig) -> Optimizer:
    """The optimiser of all parameters of any network, fused where torch has that."""
    group = {
        "params": list(network.parameters()),
        "lr": config.lr,
        "weight_decay": config.weight_decay,
    }
    return _of_kind([group], config, fused=True)


def orthogonal_lr(config: OptimizerConfig) -> float:
    """The learning rate of the recurrent weight's parameters."""
    return config.lr if config.orthogonal_lr is None else config.orthogonal_lr


def _of_kind(
    groups: list[dict[str, Any]], config: OptimizerConfig, fused: bool | None = None
) -> Optimizer:
    match config:
        case Adam():
            beta1, beta2 = config.betas
            return torch.optim.Adam(groups, betas=(beta1, beta2), eps=config.eps, fused=fused)
        case RMSprop():
            return torch.optim.RMSprop(
                groups, alpha=config.alpha, momentum=config.momentum, eps=config.eps
            )
        case SGD():
            return torch.optim.SGD(groups, momentum=config.momentum, fused=fused)
    raise UserError(f"no optimiser is called {config.name!r}: choose adam, rmsprop or sgd")


def rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """The factor of the learning rates in step ``step``, counted from 0, of ``steps``."""
    done = min(step / steps, 1.0)
    match schedule:
        case Schedule.linear:
            return 1 - done
        case Schedule.cosine:
            return (1 + math.cos(math.pi * done)) / 2
    return 1.0


def clipped_norm(parameters: list[nn.Parameter], clip: float | None) -> float:
    """The norm of all gradients together, before they are scaled to ``clip`` at most."""
    limit = math.inf if clip is None else clip
    return float(nn.utils.clip_grad_norm_(parameters, limit))


class Diverged(ArithmeticError):
    """The loss or the norm of the gradient is not a finite number."""

    def __init__(self, step: int, loss: float, grad_norm: float) -> None:
        what = "loss" if not math.isfinite(loss) else "gradient norm"
        value = loss if not math.isfinite(loss) else grad_norm
        super().__init__(f"the {what} is {value} at step {step}")
        self.step, self.loss, self.grad_norm = step, loss, grad_norm


class Learner:
    """A model with its optimiser, learning from minibatches of a task.

    Args:
        model: is moved to ``device``.
        task: gives the minibatches.
        config: of the optimiser.
        steps: in all, for the schedule.
        generator: on the CPU; the minibatches come from it.
        ranks: the processes that learn together, each in a state like this one's.

    Attributes:
        step: steps done.
    """

    def __init__(
        self,
        model: SequenceModel,
        task: Task,
        config: OptimizerConfig,
        *,
        steps: int,
        batch_size: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        ranks: Ranks = ALONE,
    ) -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.task = task
        self.batch_size = batch_size
        self.generator = generator
        self.ranks = ranks
        self.optimizer = model_optimizer(model, config)
        self.config = config
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.steps = steps
        self.parameters = list(model.parameters())
        self.step = 0
        self.score = 0.0  # this process's part of the last minibatch's, for a curriculum

    @property
    def epoch(self) -> float | None:
        """Epochs done, in a task that has any."""
        size = self.task.epoch_size
        return self.step / math.ceil(size / self.batch_size) if size else None

    def learn(self) -> tuple[float, float]:
        """One step; the loss on its minibatch, and the norm of the gradient before clipping.

        Raises:
            Diverged: one of them is not finite. Nothing was changed then.
            KeyboardInterrupt: after the step, where one of several processes was interrupted.
        """
        value, grad_norm = self.learn_from(self.task.batch(self.batch_size, self.generator))
        if self.task.training_length < self.task.length:
            self.task.adapt(self.ranks.add({"score": self.score})["score"])
        if self.ranks.interrupted:
            raise KeyboardInterrupt
        return value, grad_norm

    def learn_from(self, batch: Batch) -> tuple[float, float]:
        """One step on a minibatch of the caller's, which no curriculum takes into account.

        Raises:
            Diverged: as :meth:`learn`.
        """
        self.model.zero_grad()
        value = self.ranks.add_gradients(self.parameters, self._backward(batch))
        grad_norm = clipped_norm(self.parameters, self.config.clip)
        if not (math.isfinite(value) and math.isfinite(grad_norm)):
            raise Diverged(self.step + 1, value, grad_norm)
        self._move(rate_factor(self.config.schedule, self.step, self.steps))
        self.step += 1
        return value, grad_norm

    def _backward(self, batch: Batch) -> Tensor:
        """The gradients of this process's part of the minibatch, and its part of the loss."""
        x, y = self.ranks.part(self.task, batch)
        sequences = x.shape[1]
        self.score = 0.0
        if sequences == 0:  # the last minibatch of an epoch may be smaller than there are processes
            return torch.zeros((), device=self.device)
        x, y = x.to(self.device), y.to(self.device)
        outputs = self.model.last(x) if self.task.at_end else self.model(x)
        share = sequences / batch[0].shape[1]
        self.score = share * (self.task.training_score(outputs.detach(), y) or 0.0)
        loss = self.task.loss(outputs, y) * share
        loss.backward()
        return loss

    def _move(self, factor: float) -> None:
        """Take a step, at the learning rates times ``factor``."""
        for group, lr in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = lr * factor
        self.optimizer.step()
        if self.model.own_step:
            self.model.step_own(factor * orthogonal_lr(self.config))
        self.model.after_step()

    def check_same(self) -> None:
        """Raise :class:`Broken` if the processes that learn together have come apart."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        self.ranks.check_same(state, self.step)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "task": self.task.state_dict(),
            "generator": self.generator.get_state(),
            "rng": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return state

    def check(self, state: Any) -> None:
        """Raise ValueError for a state that does not fit :meth:`load_state_dict`.

        Raises:
            ValueError: it is of another model, task or optimiser, or damaged.
        """
        name, own = "learner", self.state_dict()
        own.pop("cuda_rng", None)  # which a training on a CPU has not
        checkpoint.mapping(state, name)
        checkpoint.mapping({k: v for k, v in state.items() if k != "cuda_rng"}, name, own)
        step = checkpoint.whole_number(state["step"], f"{name}.step")
        checkpoint.weights(state["model"], f"{name}.model", own["model"])
        checkpoint.optimizer(state["optimizer"], f"{name}.optimizer", self.optimizer, step)
        self.task.check_state(state["task"])
        checkpoint.random_state(state["generator"], f"{name}.generator", own["generator"])
        checkpoint.random_state(state["rng"], f"{name}.rng", own["rng"])

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a :meth:`state_dict`; the tensors may be on any device.

        Raises:
            ValueError, RuntimeError, KeyError: it is of another model, task or optimiser.
        """
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.task.load_state_dict(state["task"])
        self.generator.set_state(state["generator"].cpu())
        torch.set_rng_state(state["rng"].cpu())
        if self.device.type == "cuda" and "cuda_rng" in state:
            torch.cuda.set_rng_state(state["cuda_rng"].cpu(), self.device)
        self.step = state["step"]

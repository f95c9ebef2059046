"""Losses of a model's output: the usual one for targets, and distillation from a dense model."""

import math
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from svdbench.arguments import number
from svdbench.lowrank.drivers.base import working
from svdbench.members import refuse_unknown

# Targets that cross entropy passes over, by PyTorch's default.
IGNORED = -100

DistillationKind = Literal["cosine", "mse", "kl"]
DISTILLATIONS: tuple[str, ...] = get_args(DistillationKind)


def usual_loss(output: Any, target: Tensor) -> Tensor:
    """Cross entropy for classes, mean squared error for numbers; the mean over a batch.

    Args:
        output: output of the model: (B, …, C) or (B, C, …) for classes, (B, …, 1) for the logit of
            two classes, and the shape of the targets for numbers.
        target: whole numbers (B, …) of any dtype, and booleans, are classes.

    Targets of −100 are ignored, as in PyTorch.

    Raises:
        ValueError: an output that fits neither.
    """
    if not isinstance(output, Tensor):
        raise ValueError(
            f"the model returns a {type(output).__name__}: wrap it in a module that returns the "
            "tensor which the loss is of"
        )
    if _numeric(target):
        if output.shape == target.shape and not target.is_complex():
            return F.mse_loss(output, target)
    elif _binary(output, target):
        return F.binary_cross_entropy_with_logits(output[..., 0], target.to(output.dtype))
    elif (logits := _logits(output, target)) is not None:
        if logits is not output:
            return F.cross_entropy(output, target.long())
        return F.cross_entropy(logits.flatten(0, -2), target.flatten().long())
    raise ValueError(
        f"there is no default loss for outputs {tuple(output.shape)} and "
        f"{target.dtype} targets {tuple(target.shape)}: give a loss"
    )


def check_classes(output: Any, target: Tensor) -> None:
    """Raise ValueError for a target that is no class of the model; apart, for ``torch.vmap``."""
    if not isinstance(output, Tensor) or _numeric(target):
        return
    binary, logits = _binary(output, target), _logits(output, target)
    if logits is None:
        return  # which no usual loss is of
    classes = 2 if binary else logits.shape[-1]
    target = target.long()
    wrong = (target < 0) | (target >= classes)
    if not binary:
        wrong &= target != IGNORED
    if wrong.any():
        raise ValueError(
            f"target {int(target[wrong][0])} is outside the classes 0 to "
            f"{classes - 1} of the model's outputs: check the targets, or the model's last layer"
        )


def usual_direction(output: Tensor, target: Tensor, signs: Tensor) -> Tensor:
    """A random vector for each example, with the Hessian of the usual loss as second moment.

    Args:
        output, target: as of :func:`usual_loss`.
        signs: ±1 at random, of the output's shape.

    Returns:
        v of the output's shape, with E[vᵢ vᵢᵀ] the Hessian of B times the loss at the output of
        example i, and E[vᵢ vⱼᵀ] = 0 of two examples. For classes v = √p∘z − p⟨√p, z⟩ with the
        softmax p: its second moment is diag(p) − ppᵀ, as that of a sampled label less p is, but
        rare classes count in each draw.
    """
    if _numeric(target):
        return _of_squares(output, signs)
    if _binary(output, target):
        p = working(output).sigmoid()
        return ((p * (1 - p) * len(output) / output.numel()).sqrt() * signs).to(output.dtype)
    logits = _logits(output, target)
    assert logits is not None  # or the usual loss would have raised
    counted = target != IGNORED
    weight = counted * (len(output) / counted.sum().clamp(min=1))
    return _of_classes(output, -1 if logits is output else 1, weight, signs)


def cross_entropy_direction(output: Tensor, target: Tensor, signs: Tensor) -> Tensor:
    """As :func:`usual_direction`, of ``torch.nn.functional.cross_entropy``.

    Args:
        output: (B, C, …).
        target: classes (B, …), or probabilities (B, C, …).
    """
    if _numeric(target):
        mass = target.sum(1)
        return _of_classes(output, 1, mass * (len(output) / mass.numel()), signs)
    counted = target != IGNORED
    return _of_classes(output, 1, counted * (len(output) / counted.sum().clamp(min=1)), signs)


class Distillation:
    """The distance between a model's output and another model's, for the same inputs; needs no
    labels.

    For a loss with ``needs_teacher``, :func:`svdbench.lowrank.compress` takes the dense model's
    outputs as targets. The dense model is then at the loss's minimum, where the gradient is zero,
    so the cost of compression follows from the curvature.

    Args:
        kind: "cosine", 1 − cos between vectors along the last dimension, for embeddings; "mse",
            the mean squared difference, for numbers; "kl", the Kullback-Leibler divergence from
            the other model's probabilities, times temperature², for logits of classes along the
            last dimension. Each is the mean over a batch, and over all positions.
        temperature: divisor of the logits, for "kl".

    Raises:
        ValueError: an unknown kind; a temperature that is not above 0, or of another kind.

    Source: Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015
    (arXiv 1503.02531), for "kl".

    Example:
        >>> import torch
        >>> from svdbench.lowrank.losses import Distillation
        >>> output = torch.eye(2)
        >>> float(Distillation("cosine")(output, torch.ones(2, 2)))  # 1 − √½
        0.292893...
    """

    needs_teacher = True

    def __init__(self, kind: DistillationKind = "cosine", temperature: float = 1.0) -> None:
        refuse_unknown("distillation", [kind], DISTILLATIONS)
        if not 0 < number("temperature", temperature) < math.inf:
            raise ValueError(f"temperature is {temperature:g}: give a number above 0")
        if kind != "kl" and temperature != 1:
            raise ValueError(f"temperature is of distillation by kl: leave it out for {kind}")
        self.kind, self.temperature = kind, float(temperature)

    @classmethod
    def fitting(
        cls, output: Any, target: Tensor | None = None, temperature: float = 1.0
    ) -> "Distillation":
        """The kind that suits a model's output.

        Args:
            output: of the model. With ``logits``, as attribute or key: "kl".
            target: of its task, if known. Classes that the output has logits of: "kl".

        Else "cosine" for tensors (B, D) or (B, T, D), and "mse" for others.
        """
        logits = "logits" in output if isinstance(output, dict) else hasattr(output, "logits")
        if isinstance(output, Tensor) and target is not None and not _numeric(target):
            logits = _logits(output, target) is output and output.shape[-1] > 1
        if logits:
            return cls("kl", temperature)
        flat = isinstance(output, Tensor) and output.ndim not in (2, 3)
        return cls("mse" if flat else "cosine", temperature)

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean over a batch.

        Args:
            output: (B, …, D).
            target: the other model's, of the same shape.

        Raises:
            ValueError: of other shapes, or no tensors.
        """
        for each in (output, target):
            if not isinstance(each, Tensor) or not each.is_floating_point():
                what = str(each.dtype) if isinstance(each, Tensor) else type(each).__name__
                raise ValueError(f"distillation is of tensors of floats, not {what}")
        if output.shape != target.shape:
            raise ValueError(
                f"outputs {tuple(output.shape)} differ in shape from the dense model's "
                f"{tuple(target.shape)}: distillation compares them one by one"
            )
        output, target = working(output), working(target)
        if self.kind == "mse":
            return F.mse_loss(output, target)
        if self.kind == "cosine":
            return (1 - F.cosine_similarity(output, target, dim=-1)).mean()
        found, expected = (F.log_softmax(x / self.temperature, -1) for x in (output, target))
        p = expected.exp()
        lost = p * (expected - found).masked_fill(p == 0, 0.0)
        return lost.sum(-1).mean() * self.temperature**2

    def direction(self, output: Tensor, target: Tensor, signs: Tensor) -> Tensor:
        """As :func:`usual_direction`; exact where output and target agree."""
        if self.kind == "mse":
            return _of_squares(output, signs)
        weight = math.sqrt(len(output) * output.shape[-1] / output.numel())
        if self.kind == "kl":
            return (weight * _of_softmax(output / self.temperature, signs)).to(output.dtype)
        # At the target the Hessian of 1 − cos is (I − uuᵀ)/‖y‖² for the output y and u = y/‖y‖.
        y = working(output)
        norm = y.norm(dim=-1, keepdim=True).clamp(min=1e-8)
        u = y / norm
        cosine = F.cosine_similarity(y, working(target), dim=-1).clamp(min=0).unsqueeze(-1)
        across = signs - u * (u * signs).sum(-1, keepdim=True)
        return (weight * cosine.sqrt() * across / norm).to(output.dtype)

    def __repr__(self) -> str:
        at = f", temperature={self.temperature:g}" if self.kind == "kl" else ""
        return f'Distillation("{self.kind}"{at})'


def _of_squares(output: Tensor, signs: Tensor) -> Tensor:
    """Of the mean of squared differences."""
    return math.sqrt(2 * len(output) / output.numel()) * signs


def _of_classes(output: Tensor, dim: int, weight: Tensor, signs: Tensor) -> Tensor:
    """Of the cross entropy of classes along a dimension, with a weight for each target."""
    v = _of_softmax(output.movedim(dim, -1), signs.movedim(dim, -1))
    return (v * weight.sqrt().unsqueeze(-1)).movedim(-1, dim).to(output.dtype)


def _of_softmax(logits: Tensor, signs: Tensor) -> Tensor:
    """Of the logarithm of a softmax over the last dimension."""
    p = working(logits).softmax(-1)
    root = p.sqrt()
    return root * signs - p * (root * signs).sum(-1, keepdim=True)


def _numeric(target: Tensor) -> bool:
    return target.is_floating_point() or target.is_complex()


def _binary(output: Tensor, target: Tensor) -> bool:
    return output.shape == (*target.shape, 1)


def _logits(output: Tensor, target: Tensor) -> Tensor | None:
    """The output with its classes last, (..., C) for targets (...)."""
    if output.shape[:-1] == target.shape:
        return output
    if output.ndim > 1 and output.shape[:1] + output.shape[2:] == target.shape:
        return output.movedim(1, -1)
    return None

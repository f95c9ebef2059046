"""Timed linear layers, dense and of low rank, and their comparison."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from svdbench.lowrank import LowRankLinear
from svdbench.measure.algorithm import Algorithm, Flops, Problem, Tensors
from svdbench.timings.config import Update
from svdbench.timings.session import TimedMethod

# So small that hundreds of steps with the same gradient leave the weights what they are.
LEARNING_RATE = 1e-6


@dataclass(frozen=True)
class LayerProblem(Problem):
    """A layer from d to d features, m rows in a batch, and the update after the backward pass.

    Example:
        >>> LayerProblem(d=64, n=64, m=32).label
        'width 64, batch 32'
    """

    optimizer: str = "none"

    @classmethod
    def of(cls, config: Any, width: int, rows: int, optimizer: str = "none") -> "LayerProblem":
        """The problem of a width and a batch, in the dtype and on the device of a configuration."""
        return cls(
            d=width,
            n=width,
            m=rows,
            dtype=getattr(torch, config.dtype.value),
            device=str(torch.device(config.device)),
            optimizer=optimizer,
        )

    @property
    def label(self) -> str:
        return f"width {self.d}, batch {self.m}"

    def sizes(self) -> dict[str, Any]:
        return {**super().sizes(), "optimizer": self.optimizer}


class Layer(Algorithm):
    """A layer that maps a batch X (B, d) to (B, d), made from a ``torch.nn.Linear``.

    Define ``made``, which returns the layer for an ``nn.Linear`` with a weight (d, d) and a bias;
    ``weight``, which computes its matrix (d, d) by a plain formula, for the check against float64;
    and ``flops``. The weight of the ``nn.Linear`` is orthogonal, so that all layers except those of
    low rank start as the same map.

    Class attributes:
        kind: the family, such as ``"dense"``.
        source: where the layer comes from.

    Example:
        .. code-block:: python

            import torch
            from svdbench.extend import Flops, Layer

            class Symmetric(Layer):
                kind, source = "symmetric", "W = A + Aᵀ"

                def made(self, linear):
                    return Half(linear)

                def weight(self, module, parameters):
                    return parameters["A"] + parameters["A"].T

                def flops(self, problem):
                    products = 4 * problem.m * problem.d**2
                    return Flops(products, 2 * products)

            class Half(torch.nn.Module):
                def __init__(self, linear):
                    super().__init__()
                    self.A = torch.nn.Parameter(linear.weight.detach() / 2)
                    self.bias = torch.nn.Parameter(linear.bias.detach().clone())

                def forward(self, x):
                    return x @ self.A.T + x @ self.A + self.bias
    """

    builds: ClassVar[str] = "Y"
    gradients: ClassVar[str] = "PyTorch's"

    @abstractmethod
    def made(self, linear: nn.Linear) -> nn.Module:
        """The layer in place of ``linear``, in its dtype and on its device."""

    @abstractmethod
    def weight(self, module: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        """The layer's matrix W (d, d), differentiable in the parameters.

        Args:
            module: what :meth:`made` returned, for its buffers.
            parameters: parameters by name, in float64, to use instead of the module's own.
        """

    def matmul(self, module: nn.Module, parameters: Mapping[str, Tensor], X: Tensor) -> Tensor:
        """X Wᵀ for the rows of X (m, d), by default with :meth:`weight`.

        Define it if W is a long product, because autograd would keep every partial product.
        """
        return X @ self.weight(module, parameters).T

    def parameter(self, W: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        """The parameters of the layer made from a weight W (d, d) and a bias b (d,)."""
        linear = nn.Linear(len(b), len(b), device=W.device, dtype=W.dtype)
        with torch.no_grad():
            linear.weight.copy_(W)
            linear.bias.copy_(b)
        self.module = self.made(linear)
        return tuple(parameter.detach() for parameter in self.module.parameters())

    def prepare(self, *inputs: Tensor) -> None:
        """Let the layer's parameters share memory with those of the check."""
        *parameters, _ = inputs
        for own, given in zip(self.module.parameters(), parameters, strict=True):
            own.data = given.data

    def apply(self, *inputs: Tensor) -> Tensor:
        """The layer with other parameters, for the check. The module itself is timed."""
        *parameters, X = inputs
        output: Tensor = torch.func.functional_call(self.module, self._named(parameters), (X,))
        return output

    def reference(self, *inputs: Tensor) -> Tensor:
        """X Wᵀ + b, with X Wᵀ by :meth:`matmul`."""
        *parameters, X = inputs
        named = self._named(parameters)
        return self.matmul(self.module, named, X) + named["bias"]

    def family(self) -> tuple[Any, ...]:
        return (type(self),)

    def floor(self, problem: Problem) -> Flops:
        """The operations of ``nn.Linear``: 2Bd² forward, twice that backward."""
        return product(problem)

    def described(self, problem: Problem) -> dict[str, Any]:
        return {"n_params": sum(p.numel() for p in self.module.parameters())}

    def _named(self, parameters: Any) -> dict[str, Tensor]:
        names = (name for name, _ in self.module.named_parameters())
        return dict(zip(names, parameters, strict=True))


def product(problem: Problem, rank: int | None = None) -> Flops:
    """Operations of X Wᵀ for X (m, d), or of both factors of W if it has a rank."""
    d, m = problem.d, problem.m
    forward = 2.0 * m * d * d if rank is None else 4.0 * m * d * rank
    return Flops(forward, 2 * forward)


class DenseLinear(Layer):
    """``torch.nn.Linear`` itself, with which the others are compared."""

    name = "linear"
    kind = "dense"
    source = "torch.nn.Linear"

    def made(self, linear: nn.Linear) -> nn.Module:
        return linear

    def weight(self, module: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        return parameters["weight"]

    def flops(self, problem: Problem) -> Flops:
        return product(problem)


class LowRank(Layer):
    """``svdbench.lowrank.LowRankLinear``: W of rank r as two factors.

    Args:
        rank: r, or None for an eighth of the width.
    """

    name = "low_rank_linear"
    kind = "low rank"
    source = "svdbench.lowrank.LowRankLinear; Xue, Li and Gong, Interspeech 2013"

    def __init__(self, rank: int | None = None) -> None:
        if rank is not None and not (isinstance(rank, int) and rank >= 1):
            raise ValueError(f"rank is {rank!r}: give a whole number of at least 1, or null")
        self.rank = rank

    def rank_of(self, d: int) -> int:
        return max(1, d // 8) if self.rank is None else self.rank

    def skip(self, problem: Problem) -> str | None:
        if (self.rank or 1) <= problem.d:
            return None
        return f"a layer of width {problem.d} has no rank {self.rank}"

    def made(self, linear: nn.Linear) -> nn.Module:
        return LowRankLinear.from_linear(linear, self.rank_of(linear.in_features))

    def weight(self, module: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        return parameters["W1"] @ parameters["W2"]

    def flops(self, problem: Problem) -> Flops:
        return product(problem, self.rank_of(problem.d))

    def floor(self, problem: Problem) -> Flops:
        """Its own operations, which are fewer than those of ``nn.Linear``."""
        return self.flops(problem)


@dataclass
class TimedLayer(TimedMethod):
    """A layer in one cell, and the optimizer of its parameters, if an update is part of a step."""

    update: Update = Update.none
    optimizer: Any = field(default=None, init=False)

    def judge(self, when: str) -> None:
        if self.optimizer is not None:  # the parameters have moved
            self.reference = None
        super().judge(when)

    def forward(self) -> Tensor:
        output: Tensor = self.layer.module(self.X)
        return output

    def backward(self, output: Tensors) -> tuple[Tensor, ...]:
        parameters = list(self.layer.module.parameters())
        inputs = *parameters, self.X
        gradients = torch.autograd.grad(output, inputs, self.G, allow_unused=True)
        if self.update is not Update.none:
            if self.optimizer is None:  # in the first warm-up
                kinds = {Update.sgd: torch.optim.SGD, Update.adam: torch.optim.Adam}
                self.optimizer = kinds[self.update](parameters, lr=LEARNING_RATE)
            for parameter, gradient in zip(parameters, gradients, strict=False):
                parameter.grad = gradient
            self.optimizer.step()
            self.optimizer.zero_grad()
        return gradients

    @property
    def layer(self) -> Layer:
        assert isinstance(self.method, Layer)
        return self.method


def layers_side_by_side(
    problem: LayerProblem, layers: Mapping[str, Layer], seed: int, update: Update = Update.none
) -> Iterator[TimedLayer]:
    """The same orthogonal weight, bias, batch and gradient for every layer.

    Args:
        layers: by the names that rows have.
        update: what follows the backward pass in a step.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    d, B = problem.d, problem.m
    W, b, X, G = torch.linalg.qr(random(d, d)).Q, random(d), random(B, d), random(B, d)
    W, b, X, G = (tensor.to(problem.device, problem.dtype) for tensor in (W, b, X, G))
    for name, layer in layers.items():
        own = X.clone().requires_grad_()
        yield TimedLayer(name, layer, (W, b), own, G, update=update)

"""Layers in place of ``torch.nn.Linear``: orthogonal, in SVD form, of low rank.

To add one, define a subclass of :class:`Layer` with a ``name`` here and add a YAML of that name to
``conf/layer``.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from svdbench.kernels import apply_reflectors_reference
from svdbench.lowrank import LowRankLinear
from svdbench.measure.algorithm import Algorithm, Flops, Problem
from svdbench.measure.costs import (
    best_block,
    factors_flops,
    half_precision,
    matrix_exp_flops,
    wy_flops,
)
from svdbench.nn import SVDLinear, orthogonal


@dataclass(frozen=True)
class LayerProblem(Problem):
    """A layer from d to d features, m rows in a batch, and the update after the backward pass.

    Example:
        >>> LayerProblem(d=64, n=64, m=32).label
        'width 64, batch 32'
    """

    optimizer: str = "none"

    @property
    def label(self) -> str:
        return f"width {self.d}, batch {self.m}"

    def sizes(self) -> dict[str, Any]:
        return {**super().sizes(), "optimizer": self.optimizer}


class Layer(Algorithm):
    """A layer that maps a batch X (B, d) to (B, d), made from a ``torch.nn.Linear``.

    Define ``made``, which returns the layer for an ``nn.Linear`` with a weight (d, d) and a bias;
    ``weight``, which computes its matrix (d, d) by a plain formula, for the check against float64;
    and ``flops``. The weight of the ``nn.Linear`` is orthogonal, so that every layer but one of
    low rank starts as the same map.

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
            parameters: float64, by name; to be used in place of the module's own.
        """

    def parameter(self, W: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        """The parameters of the layer that is made from a weight W (d, d) and a bias b (d,)."""
        linear = nn.Linear(len(b), len(b), device=W.device, dtype=W.dtype)
        with torch.no_grad():
            linear.weight.copy_(W)
            linear.bias.copy_(b)
        self.module = self.made(linear)
        return tuple(parameter.detach() for parameter in self.module.parameters())

    def prepare(self, *inputs: Tensor) -> None:
        """Let the layer's parameters and those that the check knows share their memory."""
        *parameters, _ = inputs
        for own, given in zip(self.module.parameters(), parameters, strict=True):
            own.data = given.data

    def apply(self, *inputs: Tensor) -> Tensor:
        """The layer with other parameters, for the check. What is timed is the module itself."""
        *parameters, X = inputs
        output: Tensor = torch.func.functional_call(self.module, self._named(parameters), (X,))
        return output

    def reference(self, *inputs: Tensor) -> Tensor:
        """X Wᵀ + b with W by :meth:`weight`."""
        *parameters, X = inputs
        named = self._named(parameters)
        return X @ self.weight(self.module, named).T + named["bias"]

    def family(self) -> tuple[Any, ...]:
        return (type(self),)

    def floor(self, problem: Problem) -> Flops:
        """What ``nn.Linear`` needs: 2Bd² forward, twice that backward."""
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


def and_product(problem: Problem, built: Flops) -> Flops:
    once = product(problem)
    return Flops(built.forward + once.forward, built.backward + once.backward)


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


class OrthogonalLinear(Layer):
    """``svdbench.nn.orthogonal(nn.Linear)``: reflectors, applied to small batches directly."""

    name = "orthogonal"
    kind = "reflectors"
    source = "svdbench.nn.orthogonal; Mathiasen et al., NeurIPS 2020"

    def made(self, linear: nn.Linear) -> nn.Module:
        return orthogonal(linear)

    def weight(self, module: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        V = parameters["parametrizations.weight.original"]
        signs = module.get_buffer("parametrizations.weight.0.signs").to(V.dtype)
        eye = torch.eye(len(V), dtype=V.dtype, device=V.device)
        return apply_reflectors_reference(V, eye) * signs

    def block(self, problem: Problem) -> int:
        return best_block(problem)

    def flops(self, problem: Problem) -> Flops:
        if problem.m <= 2 * problem.d:  # without building W
            return wy_flops(problem, self.block(problem))
        square = replace(problem, m=problem.d)
        return and_product(problem, wy_flops(square, best_block(square)))


class SVDForm(Layer):
    """``svdbench.nn.SVDLinear``: W = U diag(σ) Vᵀ, U and V by reflectors."""

    name = "svd_linear"
    kind = "svd"
    source = "svdbench.nn.SVDLinear; Zhang, Lei and Dhillon, ICML 2018"

    def made(self, linear: nn.Linear) -> nn.Module:
        return SVDLinear.from_linear(linear)

    def weight(self, module: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        U, V, s = (parameters[name] for name in ("U", "V", "singular_values.raw"))
        eye = torch.eye(len(s), dtype=U.dtype, device=U.device)
        scale = s * module.get_buffer("signs").to(U.dtype)
        return (apply_reflectors_reference(U, eye) * scale) @ apply_reflectors_reference(V, eye).T

    def block(self, problem: Problem) -> int:
        return best_block(problem)

    def flops(self, problem: Problem) -> Flops:
        return factors_flops(problem, self.block(problem))


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


class TorchOrthogonal(Layer):
    """``torch.nn.utils.parametrizations.orthogonal(nn.Linear)`` by one of its three maps.

    Class attributes:
        map: the value of ``orthogonal_map``.
    """

    kind = "torch's maps"
    map: ClassVar[str]

    def skip(self, problem: Problem) -> str | None:
        return half_precision(problem, "torch's orthogonal")

    def made(self, linear: nn.Linear) -> nn.Module:
        made: nn.Module = parametrizations.orthogonal(linear, orthogonal_map=self.map)
        return made

    def weight(self, module: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        X = parameters["parametrizations.weight.original"]
        base = module.get_buffer("parametrizations.weight.0.base").to(X.dtype)
        return base @ self.matrix(X)

    @abstractmethod
    def matrix(self, X: Tensor) -> Tensor:
        """The orthogonal matrix of a parameter X (d, d), by a plain formula."""


class TorchExponentialLinear(TorchOrthogonal):
    name = "torch_orthogonal_exp"
    source = "torch, orthogonal_map='matrix_exp'; Lezcano-Casado and Martínez-Rubio, ICML 2019"
    map = "matrix_exp"

    def matrix(self, X: Tensor) -> Tensor:
        A = X.tril() - X.tril().T
        norm = torch.linalg.matrix_norm(A.detach(), 1).clamp_min(1.0)
        halvings = int(norm.log2().ceil()) + 1
        term = total = torch.eye(len(X), dtype=X.dtype, device=X.device)
        for j in range(1, 19):
            term = term @ A / (j * 2**halvings)
            total = total + term
        for _ in range(halvings):
            total = total @ total
        return total

    def flops(self, problem: Problem) -> Flops:
        return matrix_exp_flops(problem, 1.0)


class TorchCayleyLinear(TorchOrthogonal):
    name = "torch_orthogonal_cayley"
    source = "torch, orthogonal_map='cayley'; Helfrich, Willmott and Ye, ICML 2018"
    map = "cayley"

    def matrix(self, X: Tensor) -> Tensor:
        A = X.tril() - X.tril().T
        eye = torch.eye(len(X), dtype=X.dtype, device=X.device)
        return torch.linalg.inv(eye - A / 2) @ (eye + A / 2)

    def flops(self, problem: Problem) -> Flops:
        """LU and d solves, 8/3 d³; backward d solves and a product, 4d³; and a product with W."""
        return and_product(problem, Flops(8 / 3 * problem.d**3, 4.0 * problem.d**3))


class TorchHouseholderLinear(TorchOrthogonal):
    name = "torch_orthogonal_householder"
    source = "torch, orthogonal_map='householder'; LAPACK orgqr"
    constants = "the diagonal of its parameter is ±1, rounded to whole numbers"
    map = "householder"

    def matrix(self, X: Tensor) -> Tensor:
        eye = torch.eye(len(X), dtype=X.dtype, device=X.device)
        rows = (X.tril(-1) + eye).T
        return apply_reflectors_reference(rows, eye) * X.detach().diagonal().int()

    def flops(self, problem: Problem) -> Flops:
        """4/3 d³ forward; backward twelve operations on d × d for each reflector, half of them."""
        return and_product(problem, Flops(4 / 3 * problem.d**3, 6.0 * problem.d**3))

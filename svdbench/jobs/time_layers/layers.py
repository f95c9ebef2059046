"""Layers in place of ``torch.nn.Linear``: orthogonal, in SVD form, of low rank.

To add one, define a subclass of :class:`Layer` with a ``name`` here and add a YAML of that name to
``conf/layer``.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from svdbench.kernels import apply_reflectors_reference
from svdbench.measure.algorithm import Flops, Problem
from svdbench.measure.costs import (
    best_block,
    factors_flops,
    half_precision,
    matrix_exp_flops,
    wy_flops,
)
from svdbench.nn import SVDLinear, orthogonal
from svdbench.timings.layers import DenseLinear, Layer, LayerProblem, LowRank, product

__all__ = ["DenseLinear", "Layer", "LayerProblem", "LowRank"]


def and_product(problem: Problem, built: Flops) -> Flops:
    once = product(problem)
    return Flops(built.forward + once.forward, built.backward + once.backward)


class MatrixFreeLayer(Layer):
    """A layer whose check applies the factors of W to the rows of X, and builds no W."""

    def weight(self, module: nn.Module, parameters: Mapping[str, Tensor]) -> Tensor:
        some = next(iter(parameters.values()))
        eye = torch.eye(len(parameters["bias"]), dtype=some.dtype, device=some.device)
        return self.matmul(module, parameters, eye).T

    @abstractmethod
    def matmul(self, module: nn.Module, parameters: Mapping[str, Tensor], X: Tensor) -> Tensor:
        """X Wᵀ for the rows of X (m, d), factor by factor."""


class OrthogonalLinear(MatrixFreeLayer):
    """``svdbench.nn.orthogonal(nn.Linear)``: reflectors, applied to small batches directly."""

    name = "orthogonal"
    kind = "reflectors"
    source = "svdbench.nn.orthogonal; Mathiasen et al., NeurIPS 2020"

    def made(self, linear: nn.Linear) -> nn.Module:
        return orthogonal(linear)

    def matmul(self, module: nn.Module, parameters: Mapping[str, Tensor], X: Tensor) -> Tensor:
        V = parameters["parametrizations.weight.original"]
        signs = module.get_buffer("parametrizations.weight.0.signs").to(V.dtype)
        return apply_reflectors_reference(V, (X * signs).T).T

    def block(self, problem: Problem) -> int:
        return best_block(problem)

    def flops(self, problem: Problem) -> Flops:
        if problem.m <= 2 * problem.d:  # without building W
            return wy_flops(problem, self.block(problem))
        square = replace(problem, m=problem.d)
        return and_product(problem, wy_flops(square, best_block(square)))


class SVDForm(MatrixFreeLayer):
    """``svdbench.nn.SVDLinear``: W = U diag(σ) Vᵀ, U and V by reflectors."""

    name = "svd_linear"
    kind = "svd"
    source = "svdbench.nn.SVDLinear; Zhang, Lei and Dhillon, ICML 2018"

    def made(self, linear: nn.Linear) -> nn.Module:
        return SVDLinear.from_linear(linear)

    def matmul(self, module: nn.Module, parameters: Mapping[str, Tensor], X: Tensor) -> Tensor:
        U, V, s = (parameters[name] for name in ("U", "V", "singular_values.raw"))
        scale = s * module.get_buffer("signs").to(U.dtype)
        Z = apply_reflectors_reference(V, X.T, transpose=True)
        return apply_reflectors_reference(U, scale.unsqueeze(-1) * Z).T

    def block(self, problem: Problem) -> int:
        return best_block(problem)

    def flops(self, problem: Problem) -> Flops:
        return factors_flops(problem, self.block(problem))


class TorchOrthogonal(MatrixFreeLayer):
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

    def matmul(self, module: nn.Module, parameters: Mapping[str, Tensor], X: Tensor) -> Tensor:
        P = parameters["parametrizations.weight.original"]
        base = module.get_buffer("parametrizations.weight.0.base").to(P.dtype)
        return (base @ self.orthogonal_matmul(P, X.T)).T

    @abstractmethod
    def orthogonal_matmul(self, P: Tensor, Y: Tensor) -> Tensor:
        """Q Y (d, m), with the orthogonal matrix Q of a parameter P (d, d) by a plain formula."""


class TorchExponentialLinear(TorchOrthogonal):
    name = "torch_orthogonal_exp"
    source = "torch, orthogonal_map='matrix_exp'; Lezcano-Casado and Martínez-Rubio, ICML 2019"
    map = "matrix_exp"

    def orthogonal_matmul(self, P: Tensor, Y: Tensor) -> Tensor:
        A = P.tril() - P.tril().T
        norm = torch.linalg.matrix_norm(A.detach(), 1).clamp_min(1.0)
        halvings = int(norm.log2().ceil()) + 1
        term = total = torch.eye(len(P), dtype=P.dtype, device=P.device)
        for j in range(1, 19):
            term = term @ A / (j * 2**halvings)
            total = total + term
        for _ in range(halvings):
            total = total @ total
        return total @ Y

    def flops(self, problem: Problem) -> Flops:
        return matrix_exp_flops(problem, 1.0)


class TorchCayleyLinear(TorchOrthogonal):
    name = "torch_orthogonal_cayley"
    source = "torch, orthogonal_map='cayley'; Helfrich, Willmott and Ye, ICML 2018"
    map = "cayley"

    def orthogonal_matmul(self, P: Tensor, Y: Tensor) -> Tensor:
        A = P.tril() - P.tril().T
        eye = torch.eye(len(P), dtype=P.dtype, device=P.device)
        return torch.linalg.inv(eye - A / 2) @ (Y + A @ Y / 2)

    def flops(self, problem: Problem) -> Flops:
        """LU and d solves, 8/3 d³; backward d solves and a product, 4d³; and a product with W."""
        return and_product(problem, Flops(8 / 3 * problem.d**3, 4.0 * problem.d**3))


class TorchHouseholderLinear(TorchOrthogonal):
    name = "torch_orthogonal_householder"
    source = "torch, orthogonal_map='householder'; LAPACK orgqr"
    constants = "the diagonal of its parameter is ±1, rounded to whole numbers"
    map = "householder"

    def orthogonal_matmul(self, P: Tensor, Y: Tensor) -> Tensor:
        rows = (P.tril(-1) + torch.eye(len(P), dtype=P.dtype, device=P.device)).T
        signs = P.detach().diagonal().int()
        return apply_reflectors_reference(rows, signs.unsqueeze(-1) * Y)

    def flops(self, problem: Problem) -> Flops:
        """4/3 d³ forward; backward twelve operations on d × d for each reflector, half of them."""
        return and_product(problem, Flops(4 / 3 * problem.d**3, 6.0 * problem.d**3))

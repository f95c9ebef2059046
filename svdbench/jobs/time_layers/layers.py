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

"""Exponential and Cayley maps of a skew-symmetric matrix."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from svdbench.measure.costs import (
    half_precision,
    matrix_exp_flops,
    missing_peer,
    not_square,
    then_product,
)

from .base import Flops, Method, Problem


def skew(V: Tensor) -> Tensor:
    """S = V − Vᵀ, shape (d, d)."""
    return V - V.mT


def scaled(V: Tensor) -> Tensor:
    """V (d, d) with rows of root-mean-square length 1, as the parameter of a skew map.

    A Gaussian V then gives angles up to 2√2, about the [−π, π] that these maps
    are initialised with, for any d. Reflectors of any length mean the same,
    so V may come much longer, which would cost the exponential more squarings.
    """
    return V * (math.sqrt(len(V)) / torch.linalg.vector_norm(V).clamp_min(1e-30))


def exp_series(S: Tensor) -> Tensor:
    """exp(S) by its Taylor series and repeated squaring, the plainest way.

    (An eigendecomposition would be plainer, but its gradient breaks down where
    eigenvalues meet.)
    """
    norm = torch.linalg.matrix_norm(S.detach(), 1).item()
    squarings = max(0, math.ceil(math.log2(max(norm, 0.5) / 0.5)))
    S = S / 2**squarings
    total = term = torch.eye(S.shape[-1], dtype=S.dtype, device=S.device)
    for i in range(1, 19):  # the rest is below ½¹⁹/19! ≈ 2e-23
        term = term @ S / i
        total = total + term
    for _ in range(squarings):
        total = total @ total
    return total


def exp_flops(problem: Problem, entries: float) -> Flops:
    """torch.matrix_exp of a d × d skew matrix of a Gaussian parameter, scaled as above, then Q X.

    The 1-norm is the largest of d column sums: close to their mean plus √(2 ln d)
    standard deviations.

    Args:
        entries: variance of an entry of S, times d.
    """
    log_d = math.log(max(problem.d, 2))
    mean = math.sqrt(2 * entries * problem.d / math.pi)
    return matrix_exp_flops(problem, mean + math.sqrt(entries * (1 - 2 / math.pi) * 2 * log_d))


def cayley_flops(problem: Problem) -> Flops:
    """Q = (I + S)⁻¹(I − S) by an LU factorisation, then Q X.

    2d³/3 to factorise, 2d³ for d right-hand sides, 2d²m for Q X. Backward: the
    factors serve again for 2d³, the gradient of I + S is 2d³, and 4d²m for Q X.
    """
    return then_product(problem, 8 / 3 * problem.d**3, 4 * problem.d**3)


class ExpOfTriangle(Method):
    """Any algorithm for exp(A) X with A = tril(V) − tril(V)ᵀ, V (d, d)."""

    def parameter(self, V: Tensor) -> Tensor:
        return scaled(V)

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        return exp_series(skew(V.tril())) @ X


class Cayley(Method):
    """(I + S)⁻¹(I − S) X with S = V − Vᵀ, V (d, d), as 2(I + S)⁻¹X − X.

    The two are equal since I − S = 2I − (I + S); the second spares the product
    S X and its gradient, and never forms the orthogonal matrix.
    """

    name = "cayley"
    kind, builds = "cayley", "QX"
    gradients = "torch's, by the LU factors of the forward pass"
    source = "Helfrich, Willmott and Ye, Orthogonal RNNs with Scaled Cayley Transform, ICML 2018"

    def skip(self, problem: Problem) -> str | None:
        return not_square(problem, "the Cayley map of V − Vᵀ") or half_precision(
            problem, "torch.linalg.solve"
        )

    def parameter(self, V: Tensor) -> Tensor:
        return scaled(V)

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        eye = torch.eye(V.shape[0], dtype=V.dtype, device=V.device)
        return 2 * torch.linalg.solve(eye + skew(V), X) - X

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        eye, S = torch.eye(V.shape[0], dtype=V.dtype, device=V.device), skew(V)
        return torch.linalg.inv(eye + S) @ (eye - S) @ X

    def flops(self, problem: Problem) -> Flops:
        """2d³/3 to factorise and 2d²m to solve; 2d²m to solve and 2d²m for dS backward."""
        return then_product(problem, 2 / 3 * problem.d**3, 0)


class CayleyDense(Cayley):
    """Q = (I + S)⁻¹(I − S) with S = V − Vᵀ, then Q X: what FastH was compared with."""

    name = "cayley_dense"
    builds = "Q"

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        eye, S = torch.eye(V.shape[0], dtype=V.dtype, device=V.device), skew(V)
        return torch.linalg.solve(eye + S, eye - S) @ X

    def flops(self, problem: Problem) -> Flops:
        return cayley_flops(problem)


class MatrixExp(Method):
    """exp(S) X with S = V − Vᵀ, V (d, d)."""

    name = "matrix_exp"
    kind, builds = "exponential", "Q"
    gradients = "torch's, by the exponential of a doubled matrix"
    source = "Lezcano-Casado and Martínez-Rubio, Cheap Orthogonal Constraints, ICML 2019"

    def skip(self, problem: Problem) -> str | None:
        # Seen in torch 2.13: it runs, but reads its coefficients as another dtype.
        return not_square(problem, "exp(V − Vᵀ)") or half_precision(
            problem, "torch.matrix_exp", "returns NaN"
        )

    def parameter(self, V: Tensor) -> Tensor:
        return scaled(V)

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        return torch.matrix_exp(skew(V)) @ X

    def reference(self, V: Tensor, X: Tensor) -> Tensor:
        return exp_series(skew(V)) @ X

    def flops(self, problem: Problem) -> Flops:
        return exp_flops(problem, entries=2)


class GeoTorch(ExpOfTriangle):
    """B exp(A) X with A = tril(V) − tril(V)ᵀ, V (d, d), and a base point B, here I.

    GeoTorch draws B at random; assigning I to the weight, as its documentation
    does, moves B there, and the product with it is computed all the same.
    """

    name = "geotorch"
    kind, builds = "exponential", "Q"
    gradients = "torch's, by the exponential of a doubled matrix"
    source = "Lezcano-Casado, Trivializations for Gradient-Based Optimization, NeurIPS 2019"

    def skip(self, problem: Problem) -> str | None:
        return (
            missing_peer("geotorch", "geotorch")
            or not_square(problem, "geotorch.orthogonal")
            or half_precision(problem, "torch.matrix_exp", "returns NaN")
        )

    def prepare(self, V: Tensor, X: Tensor) -> None:
        import geotorch

        layer: Any = nn.Module()
        layer.weight = nn.Parameter(V.detach().clone())
        with torch.random.fork_rng([V.device] if V.is_cuda else []):
            geotorch.orthogonal(layer, "weight")
        layer.weight = torch.eye(len(V), dtype=V.dtype, device=V.device)
        self.parametrization = cast(nn.Module, layer.parametrizations.weight[0])

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        Q: Tensor = self.parametrization(V)
        return Q @ X

    def flops(self, problem: Problem) -> Flops:
        """The exponential's, and 2d³ each way for the product with B."""
        exp, base = exp_flops(problem, entries=1), 2 * problem.d**3
        return Flops(exp.forward + base, exp.backward + base)

"""Inverse, log-determinant, exponential and Cayley map of a matrix: dense, and through its SVD.

To add one, define a subclass of :class:`MatrixOp` with a ``name`` here and add a YAML of that
name, ``<operation>_<way>``, to ``conf/matrix_op``.

All methods of an operation get the same matrix: W = U Σ Vᵀ, or U Σ Uᵀ if the operation takes a
symmetric one. The factored methods have U, s and V as parameters, the dense ones W itself, which is
formed in float64 and then rounded.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from svdbench.measure.algorithm import Algorithm, Flops, Problem
from svdbench.measure.costs import TunedAlgorithm, factors_flops, half_precision
from svdbench.nn import factored

from .formulas import (
    exp_by_series,
    exponential,
    exponential_series,
    lu_determinant,
    lu_inverse,
    lu_solve,
    solve_by_qr,
    through_factors,
)


class MatrixOp(Algorithm):
    """A function of W (d, d) and X (d, m), differentiable in X and the parameters of W.

    Define ``parameter``, which makes the parameters from U (n, d), s (d,) and V (n, d) with
    W = U diag(s) Vᵀ; ``apply`` and ``reference``, which take them and X and return (d, m); and
    ``flops``. ``builds`` is ``"product"`` if W or a function of it is only applied to X, and
    ``"matrix"`` if the function of W is formed.

    Class attributes:
        operation: what is computed, the first part of the name.
        symmetric: whether the operation takes W = U Σ Uᵀ.
        scalar: whether it also returns a number, such as log|det W|, with the value (d, m).

    Example:
        .. code-block:: python

            import torch
            from svdbench.extend import DenseMatrixOp, Flops

            class InverseByQR(DenseMatrixOp):  # its one parameter is W (d, d)
                operation, kind, builds = "inverse", "qr", "product"
                gradients, source = "autograd", "Golub and Van Loan, Matrix Computations"

                def apply(self, W, X):
                    Q, R = torch.linalg.qr(W)
                    return torch.linalg.solve_triangular(R, Q.T @ X, upper=True)

                def reference(self, W, X):
                    return torch.linalg.inv(W) @ X

                def flops(self, problem):
                    forward = 4 / 3 * problem.d**3 + 3 * problem.d**2 * problem.m
                    return Flops(forward, 2 * forward)
    """

    operation: ClassVar[str]
    symmetric: ClassVar[bool] = False
    scalar: ClassVar[bool] = False

    @abstractmethod
    def parameter(self, U: Tensor, s: Tensor, V: Tensor) -> tuple[Tensor, ...]:
        """The parameters, made (untimed) from U (n, d), s (d,) and V (n, d)."""


class FactoredOperation(TunedAlgorithm, MatrixOp):
    """Through the factors: parameters U, s, V, or U, s where W is symmetric."""

    kind, builds = "svd", "product"
    gradients = "closed form"
    source = "Mathiasen et al., What if Neural Networks had SVDs?, NeurIPS 2020"

    def parameter(self, U: Tensor, s: Tensor, V: Tensor) -> tuple[Tensor, ...]:
        return (U, s) if self.symmetric else (U, s, V)

    def prepare(self, U: Tensor, *others: Tensor) -> None:
        self.tune_for(U, others[-1])

    def flops(self, problem: Problem) -> Flops:
        return factors_flops(problem, self.block(problem))


class Dense(MatrixOp):
    """A :class:`MatrixOp` on the matrix itself: its only parameter is W (d, d).

    Example:
        >>> class Inverse(DenseMatrixOp):
        ...     operation, kind, builds, gradients = "inverse", "lu", "matrix", "torch's"
        ...     source = "LAPACK"
        ...     apply = staticmethod(lambda W, X: torch.linalg.inv(W) @ X)
        ...     reference = staticmethod(lambda W, X: torch.linalg.solve(W, X))
        ...     flops = staticmethod(lambda problem: Flops(2 * problem.d**3, 4 * problem.d**3))
        >>> Inverse().apply(2 * torch.eye(2), torch.ones(2, 1)).T
        tensor([[0.5000, 0.5000]])
    """

    def skip(self, problem: Problem) -> str | None:
        return half_precision(problem, "torch.linalg")

    def parameter(self, U: Tensor, s: Tensor, V: Tensor) -> tuple[Tensor, ...]:
        wide = U.double(), s.double(), (U if self.symmetric else V).double()
        eye = torch.eye(U.shape[-1], dtype=torch.float64, device=U.device)
        return (factored.apply(*wide, eye).to(U.dtype),)


class Solve(Dense):
    """By ``torch.linalg.solve``."""

    kind, builds = "lu", "product"
    gradients = "torch's, by the LU factors of the forward pass"
    source = "torch.linalg.solve (LAPACK gesv)"

    def flops(self, problem: Problem) -> Flops:
        return lu_solve(problem)


class CayleySolve(Solve):
    """(I − W)(I + W)⁻¹ X as 2(I + W)⁻¹X − X, which spares the product W X and its gradient."""

    name = "cayley_solve"
    operation, symmetric = "cayley", True

    def apply(self, W: Tensor, X: Tensor) -> Tensor:
        eye = torch.eye(len(W), dtype=W.dtype, device=W.device)
        return 2 * torch.linalg.solve(eye + W, X) - X

    def reference(self, W: Tensor, X: Tensor) -> Tensor:
        eye = torch.eye(len(W), dtype=W.dtype, device=W.device)
        return solve_by_qr(eye + W, (eye - W) @ X)


class CayleySVD(FactoredOperation):
    """U (1 − Σ)/(1 + Σ) Uᵀ X with W = U Σ Uᵀ."""

    name = "cayley_svd"
    operation, symmetric = "cayley", True

    def apply(self, U: Tensor, s: Tensor, X: Tensor) -> Tensor:
        return factored.cayley_apply(U, s, X)

    def reference(self, U: Tensor, s: Tensor, X: Tensor) -> Tensor:
        return through_factors(U, 2 / (1 + s) - 1, U, X)


class ExpDense(Dense):
    """torch.matrix_exp(W) X: scaling, a polynomial, and squaring."""

    name = "exp_dense"
    operation, symmetric = "exp", True
    kind, builds = "exponential", "matrix"
    gradients = "torch's, by the exponential of a doubled matrix"
    source = "torch.matrix_exp (Bader, Blanes and Casas 2019)"

    def apply(self, W: Tensor, X: Tensor) -> Tensor:
        return torch.matrix_exp(W) @ X

    def reference(self, W: Tensor, X: Tensor) -> Tensor:
        return exp_by_series(W, X)

    def flops(self, problem: Problem) -> Flops:
        return exponential(problem)


class ExpSVD(FactoredOperation):
    """U e^Σ Uᵀ X with W = U Σ Uᵀ."""

    name = "exp_svd"
    operation, symmetric = "exp", True

    def apply(self, U: Tensor, s: Tensor, X: Tensor) -> Tensor:
        return factored.exp_apply(U, s, X)

    def reference(self, U: Tensor, s: Tensor, X: Tensor) -> Tensor:
        return through_factors(U, s.exp(), U, X)


class ExpTaylor(ExpDense):
    """e^μ Σ (W − μI)ʲ X / j! with μ the mean eigenvalue, until a term no longer counts.

    The exponential is never formed. torch has no function for it, but where W is near
    a multiple of the identity nothing dense is faster, so this is the one to beat.
    Large ‖W − μI‖ would need the scaling of the source; without, digits cancel, and
    the gate says so.
    """

    name = "exp_taylor"
    kind, builds = "taylor", "product"
    gradients = "autograd"
    source = "Al-Mohy and Higham, Computing the Action of the Matrix Exponential, SISC 2011"

    def apply(self, W: Tensor, X: Tensor) -> Tensor:
        # Any constant μ gives the same function of W, so it needs no gradient.
        mean = W.detach().diagonal().mean()
        total = term = X
        for j in range(1, 101):
            term = torch.sub(W @ term, mean * term) / j
            total = total + term
            if term.detach().norm() <= _tolerance(X.dtype) * total.detach().norm():
                break
        return mean.exp() * total

    def flops(self, problem: Problem) -> Flops:
        return exponential_series(problem, _tolerance(problem.dtype))


def _tolerance(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps / 2


class InverseSolve(Solve):
    """torch.linalg.solve(W, X): the fair way, as the inverse itself is not needed."""

    name = "inverse_solve"
    operation = "inverse"

    def apply(self, W: Tensor, X: Tensor) -> Tensor:
        return torch.linalg.solve(W, X)

    def reference(self, W: Tensor, X: Tensor) -> Tensor:
        return solve_by_qr(W, X)


class InverseInv(InverseSolve):
    """torch.linalg.inv(W) X: what the paper compares with, for layers that keep the inverse."""

    name = "inverse_inv"
    builds = "matrix"
    gradients = "torch's, two products with the inverse"
    source = "torch.linalg.inv (LAPACK getrf, getri)"

    def apply(self, W: Tensor, X: Tensor) -> Tensor:
        return torch.linalg.inv(W) @ X

    def flops(self, problem: Problem) -> Flops:
        return lu_inverse(problem)


class InverseSVD(FactoredOperation):
    """V Σ⁻¹ Uᵀ X."""

    name = "inverse_svd"
    operation = "inverse"

    def apply(self, U: Tensor, s: Tensor, V: Tensor, X: Tensor) -> Tensor:
        return factored.inverse_apply(U, s, V, X)

    def reference(self, U: Tensor, s: Tensor, V: Tensor, X: Tensor) -> Tensor:
        return through_factors(V, 1 / s, U, X)


class LogdetLU(Dense):
    """W X and torch.linalg.slogdet(W)."""

    name = "logdet_lu"
    operation, scalar = "logdet", True
    kind, builds = "lu", "matrix"
    gradients = "torch's, W⁻ᵀ by the LU factors of the forward pass"
    source = "torch.linalg.slogdet (LAPACK getrf)"

    def apply(self, W: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
        return W @ X, torch.linalg.slogdet(W).logabsdet

    def reference(self, W: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
        return W @ X, torch.linalg.qr(W).R.diagonal().abs().log().sum()

    def flops(self, problem: Problem) -> Flops:
        return lu_determinant(problem)


class LogdetSVD(FactoredOperation):
    """U Σ Vᵀ X and Σ log|σ|, what a layer of a normalising flow has to give.

    The product belongs to the step, in both ways: log|det W| alone is a sum of d
    numbers here, while whatever W is for takes the products of reflectors.
    """

    name = "logdet_svd"
    operation, scalar = "logdet", True

    def apply(self, U: Tensor, s: Tensor, V: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
        return factored.apply(U, s, V, X), factored.logabsdet(s)

    def reference(self, U: Tensor, s: Tensor, V: Tensor, X: Tensor) -> tuple[Tensor, Tensor]:
        return through_factors(U, s, V, X), (s * s).log().sum() / 2

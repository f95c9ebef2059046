"""What a way to compute a function of a matrix has to say of itself.

Adding one is a file here with a subclass of :class:`MatrixOp` and a YAML of the
same name in ``conf/matrix_op``, called ``<operation>_<way>``; nothing else is edited.

All ways of an operation get the same matrix: W = U Σ Vᵀ, or U Σ Uᵀ where the
operation is on a symmetric one. The factored ways keep U, s and V as parameters, the
dense ones W itself, which is formed in float64 and then rounded.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from svdbench import kernels
from svdbench.algorithm import Algorithm, Flops, Problem
from svdbench.nn import factored
from svdbench.orthogonal._skip import half_precision
from svdbench.orthogonal._wy import best_block, factors_flops


class MatrixOp(Algorithm):
    """A function of W (d, d) and X (d, m), differentiable in X and the parameters of W.

    ``builds`` is ``"product"`` where W or a function of it is only ever applied to X, and
    ``"matrix"`` where the function of W is formed.

    Class attributes:
        operation: what is computed, the first part of the name.
        symmetric: whether the operation is on W = U Σ Uᵀ.
        scalar: whether a number, such as log|det W|, comes with the value (d, m).
    """

    operation: ClassVar[str]
    symmetric: ClassVar[bool] = False
    scalar: ClassVar[bool] = False

    @abstractmethod
    def parameter(self, U: Tensor, s: Tensor, V: Tensor) -> tuple[Tensor, ...]:
        """The parameters, made (untimed) from U (n, d), s (d,) and V (n, d)."""


class Factored(MatrixOp):
    """Through the factors: parameters U, s, V, or U, s where W is symmetric.

    Args:
        tune: measure the best block size for the shape before the first call.
    """

    kind = "svd"
    builds = "product"
    gradients = "closed form"
    source = "Mathiasen et al., What if Neural Networks had SVDs?, NeurIPS 2020"

    def __init__(self, tune: bool = True) -> None:
        self.tune = tune

    def parameter(self, U: Tensor, s: Tensor, V: Tensor) -> tuple[Tensor, ...]:
        return (U, s) if self.symmetric else (U, s, V)

    def prepare(self, U: Tensor, *others: Tensor) -> None:
        if self.tune:
            kernels.tune(U, others[-1], again=False, keep=False)

    def block(self, problem: Problem) -> int:
        return best_block(problem)

    def flops(self, problem: Problem) -> Flops:
        return factors_flops(problem, self.block(problem))


class Dense(MatrixOp):
    """On the matrix itself: its one parameter is W (d, d)."""

    def skip(self, problem: Problem) -> str | None:
        return half_precision(problem, "torch.linalg")

    def parameter(self, U: Tensor, s: Tensor, V: Tensor) -> tuple[Tensor, ...]:
        wide = U.double(), s.double(), (U if self.symmetric else V).double()
        eye = torch.eye(U.shape[-1], dtype=torch.float64, device=U.device)
        return (factored.apply(*wide, eye).to(U.dtype),)

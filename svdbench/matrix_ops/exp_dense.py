"""e^W X by forming the exponential."""

import torch
from torch import Tensor

from svdbench.algorithm import Flops, Problem

from ._flops import exponential
from ._plain import exp_by_series
from .base import Dense


class ExpDense(Dense):
    """torch.matrix_exp(W) X: scaling, a polynomial, and squaring."""

    operation = "exp"
    symmetric = True
    kind = "exponential"
    builds = "matrix"
    gradients = "torch's, by the exponential of a doubled matrix"
    source = "torch.matrix_exp (Bader, Blanes and Casas 2019)"

    def apply(self, W: Tensor, X: Tensor) -> Tensor:
        return torch.matrix_exp(W) @ X

    def reference(self, W: Tensor, X: Tensor) -> Tensor:
        return exp_by_series(W, X)

    def flops(self, problem: Problem) -> Flops:
        return exponential(problem)

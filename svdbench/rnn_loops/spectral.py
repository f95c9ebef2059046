"""The Spectral-RNN with W built once a loop."""

from dataclasses import replace

import torch
from torch import Tensor

from svdbench import kernels
from svdbench.algorithm import Flops, Problem
from svdbench.nn import factored
from svdbench.nn.recurrence import recurrence
from svdbench.orthogonal._wy import best_block, factors_flops

from .base import Factored, blocks_and_factors, drive, products, steps


class Spectral(Factored):
    """W = U diag(s) Vᵀ from its factors, then one fused recurrence over all steps.

    W does not change within a loop, so one dW goes back through the factors. This is
    what ``svdbench.nn.SpectralRNN`` does.

    Args:
        tune: measure the best block size for building W before the first call.
    """

    kind = "spectral"
    builds = "W"
    gradients = "closed form, through time and through the factors"
    source = "svdbench; the parametrisation is Zhang, Lei and Dhillon's, ICML 2018"

    def __init__(self, tune: bool = True) -> None:
        self.tune = tune

    def prepare(self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor, X: Tensor) -> None:
        if self.tune:
            kernels.tune(U, X.new_empty(len(s), len(s)), again=False, keep=False)

    def block(self, problem: Problem) -> int:
        return best_block(replace(problem, m=problem.d))

    def apply(self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor, X: Tensor) -> Tensor:
        eye = torch.eye(len(s), dtype=X.dtype, device=X.device)
        W = factored.apply(U, s, V, eye)
        return recurrence(drive(M, b, X), W)

    def flops(self, problem: Problem) -> Flops:
        build = factors_flops(replace(problem, m=problem.d), self.block(problem))
        loop = products(problem)
        return Flops(build.forward + loop.forward, build.backward + loop.backward)

    def sequential_ops(self, problem: Problem) -> int:
        return blocks_and_factors(problem, self.block(problem)) + steps(problem)

"""The Spectral-RNN by FastH: U and V in blocks of reflectors, at every step."""

import torch
from torch import Tensor

from svdbench import kernels
from svdbench.algorithm import Flops, Problem
from svdbench.orthogonal._wy import Blocks, factors_flops

from .base import Factored, blocks_and_factors, drive, steps


class FastHEachStep(Blocks, Factored):
    """h ← U (s ∘ (Vᵀ h)) by ``kernels.apply_reflectors`` at every step.

    This is the second experiment of the slides. The factors of the blocks, which are the
    same at all steps, are made anew at each.

    Args:
        block_size: reflectors to a block; None takes the best known for the shape.
        tune: measure the best block size before the first call, where none is given.
    """

    kind = "fasth"
    builds = "W h"
    gradients = "closed form at each step"
    source = "Mathiasen et al., What if Neural Networks had SVDs?, NeurIPS 2020"

    def prepare(self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor, X: Tensor) -> None:
        if self.tune:
            kernels.tune(U, X.new_empty(len(s), X.shape[1]), again=False, keep=False)

    def apply(self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor, X: Tensor) -> Tensor:
        k = self.block_size
        h, states = X.new_zeros(len(s), X.shape[1]), []
        for u in drive(M, b, X).mT.contiguous().unbind():
            Vth = kernels.apply_reflectors(V, h, transpose=True, block_size=k)
            Wh = kernels.apply_reflectors(U, s.unsqueeze(-1) * Vth, block_size=k)
            h = torch.tanh(Wh + u)
            states.append(h)
        return torch.stack(states).mT

    def flops(self, problem: Problem) -> Flops:
        once = factors_flops(problem, self.block(problem))
        return Flops(steps(problem) * once.forward, steps(problem) * once.backward)

    def sequential_ops(self, problem: Problem) -> int:
        return steps(problem) * blocks_and_factors(problem, self.block(problem))

    def slides_ops(self, problem: Problem) -> int:
        """O(d/k + T·k), their m being the block size k; here for U and for V."""
        k = self.block(problem)
        return 2 * (-(-problem.n // k) + steps(problem) * k)

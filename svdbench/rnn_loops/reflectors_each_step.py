"""The vanilla Spectral-RNN: every reflector, one by one, at every step."""

import torch
from torch import Tensor, nn

from svdbench.algorithm import Flops, Problem

from .base import Factored, drive, steps


class ReflectorsEachStep(Factored):
    """h ← U (s ∘ (Vᵀ h)), reflector by reflector, at every step, by autograd.

    As the authors' code works, with two things spared: rows are made unit vectors once
    a loop, not at every step, and a reflector is one product and one rank-one update.

    Args:
        max_bytes: skip problems whose states between reflectors need more memory.
    """

    kind = "reflectors"
    builds = "W h"
    gradients = "autograd"
    source = (
        "Zhang, Lei and Dhillon, Stabilizing Gradients for Deep Neural Networks via "
        "Efficient SVD Parameterization, ICML 2018"
    )

    def __init__(self, max_bytes: float = 4e9) -> None:
        self.max_bytes = max_bytes

    def skip(self, problem: Problem) -> str | None:
        states = self.sequential_ops(problem)
        needed = states * problem.d * problem.m * problem.dtype.itemsize
        if needed <= self.max_bytes:
            return None
        return (
            f"autograd would keep {states:,} states, {needed / 1e9:.1f} GB; the limit is "
            f"{self.max_bytes / 1e9:.1f} GB (rnn.reflectors_each_step.max_bytes=…)"
        )

    def apply(self, U: Tensor, s: Tensor, V: Tensor, M: Tensor, b: Tensor, X: Tensor) -> Tensor:
        us, vs = unit_rows(U)[::-1], unit_rows(V)
        h, states = X.new_zeros(X.shape[1], len(s)), []
        for u in drive(M, b, X).unbind():
            h = torch.tanh(reflect(us, reflect(vs, h) * s) + u)
            states.append(h)
        return torch.stack(states)

    def flops(self, problem: Problem) -> Flops:
        """A reflector is 4dm forward, and 8dm backward: two products and two outer products."""
        reflector = 4.0 * problem.d * problem.m
        ops = self.sequential_ops(problem)
        return Flops(ops * reflector, 2 * ops * reflector)

    def sequential_ops(self, problem: Problem) -> int:
        """n reflectors of V and n of U, at each of T steps."""
        return 2 * problem.n * steps(problem)

    def slides_ops(self, problem: Problem) -> int:
        """O(d) a step."""
        return self.sequential_ops(problem)


def unit_rows(V: Tensor) -> tuple[Tensor, ...]:
    return nn.functional.normalize(V, dim=-1).unbind()


def reflect(rows: tuple[Tensor, ...], h: Tensor) -> Tensor:
    """Each h of a batch (B, d) by the first row, then the second, …"""
    for v in rows:
        h = torch.addr(h, torch.mv(h, v), v, alpha=-2)
    return h

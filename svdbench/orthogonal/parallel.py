"""The product of all Householder matrices by a balanced tree of dense products."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from ._rows import ReflectorRows, unit_rows
from .base import Flops, Problem


class Parallel(ReflectorRows):
    """Q = H(v₁)⋯H(vₙ) in log₂ n levels, each one batched product of d × d matrices; then Q X.

    The leaves are pairs of reflectors, dense at once as a rank-two update of I:
    half the memory of a tree that starts from single reflectors. The time is
    O(d³ log n) only with a processor for every product of a level; the work is
    O(nd³), which is what ``flops`` counts.

    Args:
        max_bytes: skip problems that need more memory than this.
    """

    kind = "dense tree"
    builds = "Q"
    gradients = "autograd"
    source = "Zhang, Lei and Dhillon, Stabilizing Gradients for Deep Neural Networks, ICML 2018"

    def __init__(self, max_bytes: float = 4e9) -> None:
        self.max_bytes = max_bytes

    def skip(self, problem: Problem) -> str | None:
        needed = self.bytes_needed(problem)
        if needed <= self.max_bytes:
            return None
        return (
            f"the tree of dense products needs {needed / 1e9:.1f} GB at d = {problem.d}, "
            f"n = {problem.n}, above max_bytes = {self.max_bytes / 1e9:.1f} GB"
        )

    @staticmethod
    def bytes_needed(problem: Problem) -> float:
        """The n matrices kept for the gradients, and half as much again on the way back."""
        return 1.5 * problem.n * problem.d**2 * problem.dtype.itemsize

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        U = pad(unit_rows(V)[0], (0, 0, 0, len(V) % 2))  # a zero row is the identity
        u, w = U.unflatten(0, (-1, 2)).unbind(1)
        # H(u)H(w) = I − 2uuᵀ − 2wwᵀ + 4(u·w)uwᵀ = I + [u w] [4(u·w)w − 2u, −2w]ᵀ
        right = torch.stack([4 * (u * w).sum(-1, keepdim=True) * w - 2 * u, -2 * w], 1)
        eye = torch.eye(V.shape[1], dtype=V.dtype, device=V.device)
        Q = torch.baddbmm(eye, torch.stack([u, w], 2), right)
        while len(Q) > 1:
            paired = len(Q) // 2 * 2
            first, second = Q[:paired].unflatten(0, (-1, 2)).unbind(1)
            merged = first @ second
            Q = merged if paired == len(Q) else torch.cat([merged, Q[paired:]])
        return Q[0] @ X

    def flops(self, problem: Problem) -> Flops:
        """p = ⌈n/2⌉ leaves of 4d², p − 1 products of 2d³, 2d²m for Q X; backward twice."""
        d, m, p = problem.d, problem.m, -(-problem.n // 2)
        forward = 4 * p * d**2 + 2 * (p - 1) * d**3 + 2 * d**2 * m
        return Flops(forward, 2 * forward)

"""FastH: products of reflectors in blocks of compact-WY form."""

from torch import Tensor

from svdbench import kernels

from ._rows import ReflectorRows
from ._wy import wy_flops
from .base import Flops, Problem


class FastH(ReflectorRows):
    """H(v₁)⋯H(vₙ) X by svdbench's own kernels, rows of V as reflectors.

    Args:
        block_size: reflectors to a block; None takes the best known for the shape.
        tune: measure the best block size before the first call, where none is given.
    """

    kind = "householder"
    builds = "QX"
    gradients = "closed form"
    source = "Mathiasen et al., What if Neural Networks had SVDs?, NeurIPS 2020"

    def __init__(self, block_size: int | None = None, tune: bool = True) -> None:
        if block_size is not None and not (isinstance(block_size, int) and block_size > 0):
            raise ValueError(f"block_size is {block_size!r}: give a whole number above 0, or null")
        self.block_size = block_size
        self.tune = tune

    def prepare(self, V: Tensor, X: Tensor) -> None:
        if self.tune and self.block_size is None:
            kernels.tune(V, X, again=False)

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        return kernels.apply_reflectors(V, X, block_size=self.block_size)

    def block(self, problem: Problem) -> int:
        return self.block_size or kernels.choose_block_size(
            problem.n, problem.d, problem.m, problem.dtype, problem.device
        )

    def flops(self, problem: Problem) -> Flops:
        return wy_flops(problem, self.block(problem))

"""FastH: products of reflectors in blocks of compact-WY form."""

from torch import Tensor

from svdbench import kernels

from ._rows import ReflectorRows
from ._wy import Blocks, wy_flops
from .base import Flops, Problem


class FastH(Blocks, ReflectorRows):
    """H(v₁)⋯H(vₙ) X by svdbench's own kernels, rows of V as reflectors.

    Args:
        block_size: reflectors to a block; None takes the best known for the shape.
        tune: measure the best block size before the first call, where none is given.
    """

    kind = "householder"
    builds = "QX"
    gradients = "closed form"
    source = "Mathiasen et al., What if Neural Networks had SVDs?, NeurIPS 2020"

    def prepare(self, V: Tensor, X: Tensor) -> None:
        if self.tune:
            kernels.tune(V, X, again=False, keep=False)

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        return kernels.apply_reflectors(V, X, block_size=self.block_size)

    def flops(self, problem: Problem) -> Flops:
        return wy_flops(problem, self.block(problem))

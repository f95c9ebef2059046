"""CWY: all reflectors in one compact-WY block."""

from torch import Tensor

from svdbench.kernels import apply_reflectors

from ._rows import ReflectorRows
from ._wy import wy_flops
from .base import Flops, Problem


class CWY(ReflectorRows):
    """H(v₁)⋯H(vₙ) X = X − Vᵀ T V X: no sequential step, and a triangle of size n to invert."""

    kind = "householder"
    builds = "QX"
    gradients = "closed form"
    source = "Likhosherstov et al., CWY Parametrization, AISTATS 2021"

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        return apply_reflectors(V, X, block_size=V.shape[0])

    def block(self, problem: Problem) -> int:
        return problem.n

    def flops(self, problem: Problem) -> Flops:
        return wy_flops(problem, problem.n)

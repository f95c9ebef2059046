"""Ours by random probes."""

from torch import Tensor

from svdbench.lowrank import randomized_svd

from .base import SVDDriver


class Randomized(SVDDriver):
    """``svdbench.lowrank.randomized_svd``.

    Args:
        oversampling: probes beyond k; None: its default.
        power_iterations: None: its default.
    """

    exact = False
    ours = True
    source = "Halko, Martinsson and Tropp, 2011; shift of Feng, Yu, Xie and Tang, 2024"

    def __init__(
        self, oversampling: int | None = None, power_iterations: int | None = None
    ) -> None:
        self.oversampling = oversampling
        self.power_iterations = power_iterations

    def apply(self, A: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        return randomized_svd(
            A, k, oversampling=self.oversampling, power_iterations=self.power_iterations
        )

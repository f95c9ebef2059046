"""Ours by the driver that is expected to be the fastest."""

from torch import Tensor

from svdbench.lowrank import choose_driver, truncated_svd

from .base import Case, SVDDriver


class Auto(SVDDriver):
    """``svdbench.lowrank.truncated_svd``."""

    exact = False
    ours = True
    source = "svdbench's choice by shape"

    def apply(self, A: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        return truncated_svd(A, k)

    def described(self, case: Case) -> str | None:
        return choose_driver(case.m, case.n, case.k)

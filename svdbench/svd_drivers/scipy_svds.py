"""SciPy's iterative SVD."""

from typing import Any

import torch
from torch import Tensor

from .base import Case, NumPyDriver


class ScipySvds(NumPyDriver):
    """``scipy.sparse.linalg.svds`` with ARPACK: one vector at a time, restarted."""

    exact = True
    source = "Lehoucq, Sorensen and Yang, ARPACK Users' Guide, 1998; SciPy's svds"

    def skip(self, case: Case) -> str | None:
        if case.k >= min(case.m, case.n):
            return "ARPACK finds fewer than min(m, n) triplets"
        return super().skip(case)

    def apply(self, A: Any, k: int) -> tuple[Any, Any, Any]:
        from scipy.sparse.linalg import svds

        U, S, Vh = svds(A, k=k, random_state=0)
        return U, S, Vh

    def result(self, found: tuple[Any, Any, Any]) -> tuple[Tensor, Tensor, Tensor]:
        U, S, Vh = super().result(found)  # in ascending order
        order = torch.argsort(S, descending=True)
        return U[:, order], S[order], Vh[order]

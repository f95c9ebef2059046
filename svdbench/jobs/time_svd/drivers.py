"""Ways to compute the first k singular triplets: ours, torch's, scikit-learn's and SciPy's.

To add one, define a subclass of :class:`SVDDriver` with a ``name`` here and add a YAML of that name
to ``conf/svd_driver``.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from svdbench.lowrank import choose_driver, gram_svd, randomized_svd, truncated_svd
from svdbench.lowrank.drivers.randomized import default_oversampling
from svdbench.measure.machine import threads_of


@dataclass(frozen=True)
class SVDProblem:
    """The first k singular triplets of a matrix (m, n) with singular values of one kind.

    Example:
        >>> SVDProblem(m=15, n=784, k=10, spectrum="step").label
        '15 × 784, k = 10, step'
    """

    m: int
    n: int
    k: int
    spectrum: str
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def label(self) -> str:
        return f"{self.m} × {self.n}, k = {self.k}, {self.spectrum}"

    def columns(self) -> dict[str, Any]:
        return {
            **{"m": self.m, "n": self.n, "k": self.k, "spectrum": self.spectrum},
            "device": self.device,
            "dtype": str(self.dtype).removeprefix("torch."),
            "threads": threads_of(self.device),
        }


class SVDDriver(ABC):
    """Computes U (m, k), S (k,) and Vh (k, n) of A (m, n).

    Define ``apply``. ``given`` converts A, and ``result`` converts the factors back to tensors,
    both untimed; ``skip`` refuses cases that the driver cannot solve.

    Class attributes:
        exact: whether it returns the best approximation, up to rounding.
        ours: whether it is part of :mod:`svdbench.lowrank`.
        source: where the algorithm or the code comes from.

    Example:
        .. code-block:: python

            import torch
            from svdbench.extend import SVDDriver

            class ByEigenvectors(SVDDriver):
                exact, source = False, "the eigenvectors of A Aᵀ in float64"

                def apply(self, A, k):
                    wide = A.double()
                    values, vectors = torch.linalg.eigh(wide @ wide.T)
                    U = vectors[:, -k:].flip(-1)
                    B = U.T @ wide
                    S = torch.linalg.vector_norm(B, dim=1)
                    return U.to(A.dtype), S.to(A.dtype), (B / S[:, None]).to(A.dtype)
    """

    exact: ClassVar[bool]
    ours: ClassVar[bool] = False
    source: ClassVar[str]

    def skip(self, case: SVDProblem) -> str | None:
        """The reason why it does not run on ``case``; None if it does."""
        return None

    def given(self, A: Tensor) -> Any:
        """A in the form that the driver takes; untimed."""
        return A

    @abstractmethod
    def apply(self, A: Any, k: int) -> tuple[Any, Any, Any]:
        """U, S and Vh for the result of :meth:`given`. This is what is timed."""

    def result(self, found: tuple[Any, Any, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """The same as tensors, with S descending; untimed."""
        return found

    def described(self, case: SVDProblem) -> str | None:
        """The name of the method that it chooses for this case, if it chooses one."""
        return None


class TorchDriver(SVDDriver):
    """One of PyTorch's own, which have no half precision."""

    def skip(self, case: SVDProblem) -> str | None:
        if case.dtype.itemsize < 4:
            return "torch.linalg has no half precision: use dtype=float32"
        return None


class NumPyDriver(SVDDriver):
    """One that takes NumPy arrays: on the CPU, in float32 or float64."""

    def skip(self, case: SVDProblem) -> str | None:
        if case.device != "cpu":
            return "NumPy runs on the CPU: use device=cpu"
        if case.dtype.itemsize < 4:
            return "LAPACK has no half precision: use dtype=float32"
        return None

    def given(self, A: Tensor) -> Any:
        return A.numpy()

    def result(self, found: tuple[Any, Any, Any]) -> tuple[Tensor, Tensor, Tensor]:
        U, S, Vh = (torch.from_numpy(factor.copy()) for factor in found)
        return U, S, Vh


class Auto(SVDDriver):
    """``svdbench.lowrank.truncated_svd``."""

    name = "auto"
    exact, ours = False, True
    source = "svdbench's choice by shape"

    def apply(self, A: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        return truncated_svd(A, k)

    def described(self, case: SVDProblem) -> str | None:
        return choose_driver(case.m, case.n, case.k, torch.device(case.device).type)


class Gram(SVDDriver):
    """``svdbench.lowrank.gram_svd``."""

    name = "gram"
    exact, ours = True, True
    source = "the eigenvectors of A Aᵀ, in float64"

    def apply(self, A: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        return gram_svd(A, k)


class Randomized(SVDDriver):
    """``svdbench.lowrank.randomized_svd``."""

    name = "randomized"
    exact, ours = False, True
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


class ScipySvds(NumPyDriver):
    """``scipy.sparse.linalg.svds`` with ARPACK: one vector at a time, restarted."""

    name = "scipy_svds"
    exact = True
    source = "Lehoucq, Sorensen and Yang, ARPACK Users' Guide, 1998; SciPy's svds"

    def skip(self, case: SVDProblem) -> str | None:
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


class SklearnRandomized(NumPyDriver):
    """``sklearn.utils.extmath.randomized_svd`` with its defaults: 10 probes to spare, LU."""

    name = "sklearn_randomized"
    exact = False
    source = "Halko, Martinsson and Tropp, 2011; scikit-learn's randomized_svd"

    def apply(self, A: Any, k: int) -> tuple[Any, Any, Any]:
        from sklearn.utils.extmath import randomized_svd

        U, S, Vh = randomized_svd(A, k, random_state=0)
        return U, S, Vh


class TorchSVD(TorchDriver):
    """``torch.linalg.svd`` of all, cut off at k."""

    name = "torch_svd"
    exact = True
    source = "LAPACK gesdd; PyTorch's torch.linalg.svd"

    def apply(self, A: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        U, S, Vh = torch.linalg.svd(A, full_matrices=False)
        return U[:, :k], S[:k], Vh[:k]


class TorchSVDLowrank(TorchDriver):
    """``torch.svd_lowrank(A, q=k)``: no probes beyond k."""

    name = "torch_svd_lowrank"
    exact = False
    source = "Halko, Martinsson and Tropp, 2011, Algorithm 5.1; PyTorch's torch.svd_lowrank"

    def __init__(self, niter: int = 2) -> None:
        self.niter = niter

    def apply(self, A: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        U, S, V = torch.svd_lowrank(A, q=k, niter=self.niter)
        return U, S, V.mT


class TorchSVDLowrankOversampled(TorchSVDLowrank):
    """``torch.svd_lowrank(A, q=k + p)`` with our p, cut off at k."""

    name = "torch_svd_lowrank_oversampled"

    def apply(self, A: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        q = min(k + default_oversampling(k), *A.shape)
        U, S, V = torch.svd_lowrank(A, q=q, niter=self.niter)
        return U[:, :k], S[:k], V.mT[:k]

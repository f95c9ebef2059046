"""What a driver of the truncated SVD has to say of itself.

Adding one is a file here with a subclass of :class:`SVDDriver` and a YAML of the same
name in ``conf/svd_driver``; nothing else is edited.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from svdbench.measure.place import threads_of


@dataclass(frozen=True)
class Case:
    """The first k singular triplets of a matrix (m, n) with singular values of one kind."""

    m: int
    n: int
    k: int
    spectrum: str
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    @property
    def label(self) -> str:
        """The case in a few words."""
        return f"{self.m} × {self.n}, k = {self.k}, {self.spectrum}"

    def columns(self) -> dict[str, Any]:
        """The case as columns of a row."""
        return {
            **{"m": self.m, "n": self.n, "k": self.k, "spectrum": self.spectrum},
            "device": self.device,
            "dtype": str(self.dtype).removeprefix("torch."),
            "threads": threads_of(self.device),
        }


class SVDDriver(ABC):
    """A way to U (m, k), S (k,) and Vh (k, n) from A (m, n).

    Class attributes:
        exact: whether it promises the best approximation, up to rounding.
        ours: whether it is of :mod:`svdbench.lowrank`.
        source: where the algorithm or the code comes from.
    """

    exact: ClassVar[bool]
    ours: ClassVar[bool] = False
    source: ClassVar[str]

    def skip(self, case: Case) -> str | None:
        """Why this one does not run on ``case``, or None if it does."""
        return None

    def given(self, A: Tensor) -> Any:
        """A in the form that the driver takes, made untimed."""
        return A

    @abstractmethod
    def apply(self, A: Any, k: int) -> tuple[Any, Any, Any]:
        """U, S and Vh of what :meth:`given` made. This is what is timed."""

    def result(self, found: tuple[Any, Any, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """The same as tensors with S descending, made untimed."""
        return found

    def described(self, case: Case) -> str | None:
        """What it does with this case, if it chooses; a name."""
        return None


class TorchDriver(SVDDriver):
    """One of PyTorch's own, which have no half precision."""

    def skip(self, case: Case) -> str | None:
        if case.dtype.itemsize < 4:
            return "torch.linalg has no half precision: use dtype=float32"
        return None


class NumPyDriver(SVDDriver):
    """One that takes NumPy arrays: on the CPU, in float32 or float64."""

    def skip(self, case: Case) -> str | None:
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

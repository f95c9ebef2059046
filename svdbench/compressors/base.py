"""What a way to bring a weight down to a rank has to say of itself.

Adding one is a file here with a subclass of :class:`Compressor` and a YAML of the same
name in ``conf/compressor``; nothing else is edited.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class Compressor(ABC):
    """Replaces a weight by one of rank k.

    Class attributes:
        title: in a few words.
        source: where the method comes from.
        needs_inputs: whether it looks at what comes into a layer.
    """

    title: ClassVar[str]
    source: ClassVar[str]
    needs_inputs: ClassVar[bool] = False

    def kept(self, rank: int) -> int:
        """The singular values that are kept where ``rank`` was asked for."""
        return rank

    @abstractmethod
    def factors(
        self, W: Tensor, k: int, inputs: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Two factors (m, k) and (k, n) whose product stands for the weight W (m, n).

        Args:
            W: of a layer y = W x.
            k: below min(m, n).
            inputs: rows x of calibration (N, n), for those that need them.
            generator: on W's device, for those that draw.
        """

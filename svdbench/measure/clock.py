"""The clock that everything timed reads.

It is passed in, never imported where it is used, so that the tests can hand
over a clock of their own and check the stopping rule exactly, without sleeping.
"""

import time
from typing import Protocol

import torch


class Clock(Protocol):
    """What a measurement asks of time."""

    def now(self) -> float:
        """Seconds since some fixed moment; never goes back."""

    def sync(self) -> None:
        """Return once the device has finished all the work it was given."""


class WallClock:
    """Real time, as it passes for the user of ``device``."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)

    def now(self) -> float:
        return time.perf_counter()

    def sync(self) -> None:
        # A CUDA call returns when its kernel is queued, not when it is done.
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

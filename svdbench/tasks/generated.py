"""Tasks whose sequences are drawn as they are asked for."""

import torch

from .base import Batch, Task, check_whole

# Far from the small numbers that training is seeded with.
TEST_SEED, VALIDATION_SEED = 7_368_787, 15_485_863


class GeneratedTask(Task):
    """A task without epochs: ``batch`` draws; the fixed sets are drawn by their own seeds.

    Args:
        test_size: sequences in the test set, and in the validation set.
    """

    def __init__(self, test_size: int) -> None:
        check_whole(1, test_size=test_size)
        self.test_size = test_size
        self._fixed: dict[int, Batch] = {}

    def test_set(self) -> Batch:
        return self._drawn(TEST_SEED)

    def validation_set(self) -> Batch:
        return self._drawn(VALIDATION_SEED)

    def _drawn(self, seed: int) -> Batch:
        if seed not in self._fixed:
            generator = torch.Generator().manual_seed(seed)
            self._fixed[seed] = self.batch(self.test_size, generator)
        return self._fixed[seed]

"""Where the steps of packed sequences stand, as ``torch.nn.utils.rnn`` packs them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class PackedLayout(NamedTuple):
    """Rows of the N steps of B sequences, packed step by step, the longest sequence first.

    Attributes:
        sizes: rows of each step, the sequences that are so long.
        before: the row of the step before, for all rows from the second step on, (N − B,).
        last: the row of the last step of each sequence, (B,).
        reverse: for each row, the row of the same sequence as far from its end, (N,).
    """

    sizes: tuple[int, ...]
    before: Tensor
    last: Tensor
    reverse: Tensor

    def steps(self, rows: Tensor) -> Sequence[Tensor]:
        """Views of the rows (N, ...), one for each step."""
        return rows.split(self.sizes)


def packed_layout(batch_sizes: Tensor, device: torch.device) -> PackedLayout:
    """The layout of a ``PackedSequence``, by its ``batch_sizes`` (T,), which are on the CPU."""
    sizes = tuple(batch_sizes.tolist())
    sequences = torch.arange(sizes[0], device="cpu")
    lengths = (batch_sizes.unsqueeze(-1) > sequences).sum(0)
    first = batch_sizes.cumsum(0) - batch_sizes  # row of each step
    step = torch.arange(len(sizes), device="cpu").repeat_interleave(batch_sizes)
    sequence = torch.arange(len(step), device="cpu") - first[step]
    later = slice(sizes[0], None)
    indices = (
        first[step[later] - 1] + sequence[later],
        first[lengths - 1] + sequences,
        first[lengths[sequence] - 1 - step] + sequence,
    )
    return PackedLayout(sizes, *(rows.to(device) for rows in indices))

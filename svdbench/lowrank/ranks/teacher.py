"""The outputs of a dense model as the targets of a compressed one."""

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from svdbench.lowrank.ranks.examples import (
    Data,
    Inputs,
    batches,
    called,
    each,
    evaluating,
    size,
    tensors,
    whole,
)
from svdbench.lowrank.ranks.outputs import output_tensor

# Bytes of outputs that are kept; what goes beyond is computed anew in each pass.
KEPT = 2**28


def with_teacher(data: Data, model: nn.Module, kept: int = KEPT) -> Data:
    """The same inputs with a model's own outputs as targets; what is whole stays so if it fits.

    Args:
        data: examples; their targets, if any, are not used.
        model: the dense one, in evaluation mode meanwhile.
        kept: bytes of its outputs to keep.
    """
    taught, split = TeacherData(data, model, kept), whole(data)
    if split is None:
        return taught
    X, _ = split
    _, first = next(iter(taught))
    if first.numel() * first.element_size() * size(X) > kept * len(first):
        return taught
    return X, torch.cat([y for _, y in taught])


class TeacherData(Iterable[tuple[Inputs, Tensor]]):
    """Batches of inputs with a model's own outputs as their targets, see :func:`with_teacher`.

    Outputs are kept between passes, as many as fit, each for inputs of the same numbers.
    """

    def __init__(self, data: Data, model: nn.Module, kept: int = KEPT) -> None:
        self.data, self.model, self.left = data, model, kept
        self.known: dict[bytes, Tensor] = {}

    def __iter__(self) -> Iterator[tuple[Inputs, Tensor]]:
        for x, _ in batches(self.data, self.model):
            yield x, self._output(x)

    def _output(self, x: Inputs) -> Tensor:
        key = _digest(x)  # and not the number of the batch, as a loader may shuffle
        if key in self.known:
            return self.known[key]
        with torch.no_grad(), evaluating(self.model):
            output = output_tensor(called(self.model, each(x, torch.clone))).detach()
        bytes_of_output = output.numel() * output.element_size()
        if bytes_of_output <= self.left:
            self.known[key] = output
            self.left -= bytes_of_output
        return output


def _digest(x: Inputs) -> bytes:
    found = hashlib.blake2b(repr(each(x, lambda part: part.new_empty(0))).encode())
    for part in tensors(x):
        found.update(repr((part.shape, part.dtype)).encode())
        found.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.digest()

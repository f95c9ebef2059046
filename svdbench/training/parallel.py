"""Several processes that train one model together, each on its part of every minibatch.

All draw the same minibatch, from generators in the same state, and each computes the loss of
its part, weighted by the part's share of the sequences: the sum of the gradients over the
processes is then that of the whole minibatch, whether or not the parts are of one size, and
all later use of a gradient is the same in each process.

A sum after the backward pass, rather than DistributedDataParallel, which sums while it runs:
a recurrent weight's gradients all come at its very end, so there is nothing to sum meanwhile.
"""

import hashlib
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from svdbench.errors import UserError, one_line
from svdbench.tasks.base import Batch, Task

# Seconds that one who lost the others leaves the launcher to see who went first, and end all.
GRACE = 5.0


class Broken(UserError):
    """The processes can't continue together."""

    exit_code = 1


class Ranks:
    """The processes of a training, as seen from one of them; by default it is alone.

    Every process has to call the same methods in the same order. All raise :class:`Broken`
    where another process is gone.

    Attributes:
        rank: of this process, 0 to ``size`` − 1.
        size: how many there are.
        asked: whether this process was asked to stop all of them.
        interrupted: whether they have agreed to, which they do with the next gradient.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.asked = self.interrupted = False

    @property
    def first(self) -> bool:
        """Whether this is the process that decides, writes and shows."""
        return self.rank == 0

    def interrupt(self) -> None:
        """Stop all processes after the same step; for a signal's handler."""
        self.asked = True

    def part(self, task: Task, batch: Batch) -> Batch:
        """This process's sequences of x (T, B, input_size) and y: none if B is too small."""
        x, y = batch
        parts = x.tensor_split(self.size, 1), y.tensor_split(self.size, 0 if task.at_end else 1)
        return parts[0][self.rank], parts[1][self.rank]

    def add_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> float:
        """Put the sum over all processes in place of each gradient; the sum of their losses.

        One collective for each dtype; the loss, a scalar, and ^C travel with the gradients.
        """
        if self.size == 1:
            return loss.item()
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        extra = torch.stack([loss.detach(), loss.new_tensor(float(self.asked))])
        for dtype in dict.fromkeys(parameter.dtype for parameter in trained):
            alike = [parameter for parameter in trained if parameter.dtype == dtype]
            flat = torch.cat([*(_gradient(p).flatten() for p in alike), extra.to(dtype)])
            with _connected():
                dist.all_reduce(flat)
            *gradients, total = flat.split([*(parameter.numel() for parameter in alike), 2])
            for parameter, gradient in zip(alike, gradients, strict=True):
                parameter.grad = gradient.view_as(parameter)
        value, asked = total.tolist()
        self.interrupted = asked > 0
        return value

    def add(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """The sum over all processes, name by name, added up in the order of ranks."""
        total: dict[str, float] = {}
        for part in self._gather(dict(numbers)):
            for name, number in part.items():
                total[name] = total.get(name, 0.0) + number
        return total

    def any(self, answer: bool) -> bool:
        """Whether it is yes in any process."""
        if self.size == 1:
            return answer
        found = torch.tensor(int(answer))
        with _connected():
            dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return bool(found)

    def broadcast(self, value: Any = None) -> Any:
        """The first process's ``value``: numbers, strings, bytes, lists of them."""
        if self.size == 1:
            return value
        values = [value]
        with _connected():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def check_same(self, state: Mapping[str, Any], step: int) -> None:
        """Compare the state that all processes share, bit by bit.

        Raises:
            Broken: it is not the same in every process.
        """
        if self.size == 1:
            return
        digests = self._gather(digest(state))
        for rank, other in enumerate(digests):
            if other != digests[0]:
                raise Broken(
                    f"at step {step:,} process {rank} no longer has the parameters of process 0: "
                    "the processors or libraries compute differently; train in one process"
                )

    def _gather(self, value: Any) -> list[Any]:
        if self.size == 1:
            return [value]
        values = [None] * self.size
        with _connected():
            dist.all_gather_object(values, value)
        return values


ALONE = Ranks()


def join_group(backend: str, **options: Any) -> None:
    """Join the process group, so that ``destroy_process_group`` takes it down.

    Modules of torch have functions with ``group=group.WORLD``: the group that there is when they
    are imported, as they are by an optimiser's first step, is kept for good, with its threads.
    As the interpreter ends, one of those may abort the process. So these modules come first.
    """
    import torch._dynamo
    import torch.distributed.nn.functional  # noqa: F401

    dist.init_process_group(backend, **options)


def join_on_gpu(local_rank: int) -> None:
    """The same for a process with a GPU of its own: NCCL on GPUs, gloo on CPUs.

    The GPU is the current device before anything else asks for one, and NCCL is given the one it
    is: so it connects at once, where a mistake shows, and not at the first gradient.
    """
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    join_group("cpu:gloo,cuda:nccl", device_id=device)


def digest(state: Any) -> str:
    """A checksum of tensors, numbers and strings in mappings and sequences."""
    found = hashlib.blake2b(digest_size=16)
    _feed(found, state)
    return found.hexdigest()


def packed(state: Mapping[str, Any]) -> bytes:
    """A state to :meth:`Ranks.tell`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def unpacked(data: bytes, device: torch.device) -> dict[str, Any]:
    """The object given to :func:`packed`, its tensors on ``device``."""
    state: dict[str, Any] = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
    return state


def _gradient(parameter: nn.Parameter) -> Tensor:
    """The gradient, zeros where the process had no sequences."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _feed(found: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            found.update(repr(key).encode())
            _feed(found, item)
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(found, item)
    else:
        found.update(repr(value).encode())


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of torch.distributed, whatever the backend
        time.sleep(GRACE)
        raise Broken(f"the other processes can't be reached: {one_line(error)}") from error

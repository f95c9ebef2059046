"""How the step of a training is computed: in which precision, and whether compiled."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from svdbench.errors import UserError, one_line
from svdbench.side_by_side.networks import Loss

# More graphs of one function than any run makes: arms, their stages and smaller networks.
MOST_GRAPHS = 4096
# The loss of a batch, of a network and the batch's examples and labels.
Pass = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Execution:
    """How all networks of a run are trained.

    Parameters, gradients and the optimiser stay as they are.

    Args:
        autocast: the type of products under ``torch.autocast``; None without it. Logits are
            float32 before the loss.
        compiled: by ``torch.compile``. A batch of another size than the first one, as the last of
            an epoch may be, is not.

    Example:
        >>> from torch.nn.functional import cross_entropy
        >>> net, X, y = torch.nn.Linear(4, 3), torch.rand(5, 4), torch.zeros(5).long()
        >>> Execution(torch.bfloat16).pass_of(net, cross_entropy)(X, y).dtype
        torch.float32
    """

    def __init__(self, autocast: torch.dtype | None = None, compiled: bool = False) -> None:
        self.autocast, self.compiled = autocast, compiled

    def pass_of(self, network: nn.Module, loss: Loss) -> "TrainingPass":
        """The forward pass of a network with its loss."""
        autocast = self.autocast

        def plain(network: nn.Module, X: Tensor, y: Tensor) -> Tensor:
            if autocast is None:
                return loss(network(X), y)
            with torch.autocast(X.device.type, autocast):
                return loss(network(X).float(), y)

        return TrainingPass(network, plain, self.compiled)


class TrainingPass:
    """The loss of a batch (X, y), to be differentiated.

    Attributes:
        network: whose loss it is.
    """

    def __init__(self, network: nn.Module, plain: Pass, compiled: bool) -> None:
        self.network, self._plain = network, plain
        # Graphs that are dynamic in the number of rows are slower.
        self._fast = torch.compile(plain, dynamic=False) if compiled else None
        self._rows: int | None = None

    @property
    def ready(self) -> bool:
        """Whether it need not be compiled first."""
        return self._fast is None or self._rows is not None

    def prepare(self, X: Tensor, y: Tensor) -> None:
        """Compile forward and backward pass for batches as this one; nothing else is changed."""
        assert self._fast is not None
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        given = X.detach().requires_grad_(X.requires_grad)
        devices = [X.device] if X.device.type == "cuda" else []
        with torch.random.fork_rng(devices), _many_graphs():
            self._fast(self.network, given, y).backward()
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for parameter in self.network.parameters():
            parameter.grad = None
        self._rows = len(X)

    def __call__(self, X: Tensor, y: Tensor) -> Tensor:
        if self._fast is not None and len(X) == self._rows:
            return self._fast(self.network, X, y)
        return self._plain(self.network, X, y)


def _many_graphs() -> AbstractContextManager[None]:
    """Lets torch keep a graph for every network: beyond its limit of 8 it would not compile."""
    from torch._dynamo import config

    # torch 2.6 and later; the aliases of torch.compiler.config are newer.
    patched: AbstractContextManager[None] = config.patch(
        recompile_limit=MOST_GRAPHS, accumulated_recompile_limit=MOST_GRAPHS
    )
    return patched


def check_compiler(device: torch.device) -> None:
    """Compile something small.

    Raises:
        UserError: there is no compiler for this device.
    """
    try:
        torch.compile(_probe)(torch.ones(8, device=device))
    except Exception as error:
        cause: BaseException = error
        while (inner := getattr(cause, "inner_exception", None) or cause.__cause__) is not None:
            cause = inner
        needs = "Triton" if device.type == "cuda" else "a C++ compiler, such as g++"
        raise UserError(
            f"torch.compile does not work here ({one_line(cause)}): install {needs}, or leave "
            "--compile out"
        ) from error


def _probe(x: Tensor) -> Tensor:
    return x * 2 + 1

"""A weight as a matrix, its two factors, and the kinds of layers that have them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from svdbench.arguments import integer
from svdbench.lowrank.drivers.base import Driver
from svdbench.lowrank.drivers.truncated import truncated_svd

# How the kernel of a convolution is seen as a matrix, see `LowRankConv2d`.
Folding = Literal["spatial", "channel"]

# Where the singular values go: √Σ into each factor, or all of them into W₁ or into W₂.
Split = Literal["balanced", "left", "right"]

# Of a matrix, for a vector that its product with another one can be multiplied with.
Side = Literal["rows", "columns"]

# The gradient at an output ↦ its vectors as rows (..., R, m), piece by piece.
Arrange = Callable[[Tensor], Iterable[Tensor]]


@dataclass(frozen=True)
class Weight:
    """The full name of a weight, and its size as a matrix, or as ``groups`` matrices.

    Example:
        >>> weight = Weight("0.weight", rows=30, columns=20)
        >>> weight.numbers(rank=5), weight.numbers(None), weight.most
        (250, 600, 11)
    """

    name: str
    rows: int
    columns: int
    groups: int = 1

    @property
    def most(self) -> int:
        """The highest rank at which two factors have fewer parameters than the matrix."""
        return max(0, (self.rows * self.columns - 1) // (self.rows + self.columns))

    def numbers(self, rank: int | None) -> int:
        """Number of parameters, as factors of a rank or dense (None)."""
        m, n = self.rows, self.columns
        return self.groups * (m * n if rank is None else rank * (m + n))


class Factors(NamedTuple):
    """The factors W₁W₂ that replace a weight, and a shift of the layer's bias.

    Attributes:
        W1: (rows, rank), or (groups, rows, rank).
        W2: (rank, columns), or (groups, rank, columns).
        shift: of the shape of the bias that stands with this weight, or None.
    """

    W1: nn.Parameter
    W2: nn.Parameter
    shift: Tensor | None = None


class Part(NamedTuple):
    """A weight of one module, as its kind sees it.

    Attributes:
        own: its name within the module.
        parameter: where its numbers are; several parts may have one parameter.
        rows, columns, groups: its size.
        bias: whether the product with it is followed by a bias of its own.
        refusal: why it stays dense; "" if it need not.
    """

    own: str
    parameter: nn.Parameter
    rows: int
    columns: int
    groups: int = 1
    bias: bool = False
    refusal: str = ""


class Observer(Protocol):
    """Observes the inputs and outputs of a weight W (m, n), or (groups, m, n)."""

    def columns(self, X: Tensor) -> None:
        """Vectors on the side of the columns, as rows (..., R, n): W is applied to them."""

    def picks(self, rows: Tensor) -> None:
        """Rows of W that were looked up, by their numbers."""

    def output(self, y: Tensor, arrange: Arrange | None = None, *, side: Side = "rows") -> Tensor:
        """The output; its gradient, arranged as rows, belongs to one side of W.

        Returns the tensor that is to be used in its place.
        """


class LowRankLayer(nn.Module, ABC):
    """A layer with weights as two factors.

    Attributes:
        factors: for each weight of the dense layer that is factored: names of W₁ and W₂.
    """

    factors: Mapping[str, tuple[str, str]]

    @staticmethod
    def product(W1: Tensor, W2: Tensor) -> Tensor:
        """The dense weight that two factors make, linear in each of them."""
        return W1 @ W2

    @classmethod
    @abstractmethod
    def sharing(
        cls, dense: Any, factors: Mapping[str, Factors], folding: Folding = "spatial"
    ) -> Self:
        """The layer with these very factors, by the names of the weights that they replace.

        It shares all other parameters with ``dense``, but for biases that are shifted.
        """

    @abstractmethod
    def to_dense(self) -> nn.Module:
        """An equivalent dense layer with weights of its own."""


class LowRankMatrix(LowRankLayer):
    """A layer with a single weight, as two factors."""

    factors: Mapping[str, tuple[str, str]] = {"weight": ("W1", "W2")}

    @property
    def weight(self) -> Tensor:
        """The dense weight, multiplied out on each access."""
        return self.product(*(self.get_parameter(own) for own in self.factors["weight"]))

    @classmethod
    @torch.no_grad()
    def _nearest(
        cls,
        dense: Any,
        matrix: Tensor,
        rank: int,
        svd: Driver,
        split: Split,
        folding: Folding = "spatial",
    ) -> Self:
        """The layer of that rank nearest to ``dense``, whose weight is a matrix; all its own."""
        rank = check_rank(rank, *matrix.shape[-2:])
        W1, W2 = (nn.Parameter(W) for W in two_factors(matrix, rank, svd, split))
        bias = getattr(dense, "bias", None)
        unshifted = None if bias is None else torch.zeros_like(bias)
        layer = cls.sharing(dense, {"weight": Factors(W1, W2, unshifted)}, folding)
        return layer.requires_grad_(True)


def check_rank(rank: Any, rows: int, columns: int) -> int:
    """The rank as an int.

    Raises:
        TypeError: it is no whole number.
        ValueError: a matrix of rows × columns can't be factored at it.
    """
    found, most = integer("rank", rank), min(rows, columns)
    if not 1 <= found <= most:
        raise ValueError(
            f"rank is {found}: a weight of {rows}×{columns} needs one from 1 to {most}"
        )
    return found


def two_factors(
    A: Tensor, rank: int, svd: Driver = truncated_svd, split: Split = "balanced"
) -> tuple[Tensor, Tensor]:
    """W₁ (…, m, rank) and W₂ (…, rank, n) with the W₁W₂ of that rank nearest to A (…, m, n)."""
    U, S, Vh = svd(A, rank)
    left, right = S.unsqueeze(-2), S.unsqueeze(-1)
    match split:
        case "balanced":
            W1, W2 = U * left.sqrt(), right.sqrt() * Vh
        case "left":
            W1, W2 = U * left, Vh
        case "right":
            W1, W2 = U, right * Vh
        case _:
            raise ValueError(f"unknown split {split!r}: choose balanced, left or right")
    return W1.contiguous(), W2.contiguous()


class LayerKind(ABC):
    """A kind of layer: its matrices, how to observe and how to replace them.

    Attributes:
        layers: the classes of layers that it is for, and what it makes of each. Those derived
            from them may do something else with their weights, and are left alone.
        ties: whether a weight that layers of such kinds share, as (rows, columns) alike, can
            be shared as factors.
        lookup: whether rows of the matrix are picked, and not multiplied with.
    """

    layers: ClassVar[Mapping[type[nn.Module], type[LowRankLayer]]]
    ties: ClassVar[bool] = False
    lookup: ClassVar[bool] = False

    @abstractmethod
    def parts(self, module: Any, folding: Folding) -> list[Part]:
        """The weights of a module."""

    def matrix(self, module: Any, own: str, folding: Folding) -> Tensor:
        """One of them, (rows, columns) or (groups, rows, columns)."""
        parameter: Tensor = module.get_parameter(own)
        return parameter.detach()

    @abstractmethod
    def watch(
        self, module: Any, observers: Mapping[str, Observer], folding: Folding
    ) -> AbstractContextManager[None]:
        """Report inputs and outputs of the module's weights to their observers, within the block.

        It is in evaluation mode and does what it did, to rounding.
        """

    def factored(
        self, module: nn.Module, factors: Mapping[str, Factors], folding: Folding
    ) -> LowRankLayer:
        """A layer with some of the weights as factors, which shares everything else."""
        return self.layers[type(module)].sharing(module, factors, folding)

    def inner(self, module: Any) -> tuple[nn.Module, ...]:
        """Submodules whose weights are parts of this module."""
        return ()


def shifted(bias: nn.Parameter | None, shift: Tensor | None) -> nn.Parameter | None:
    """The bias itself, or a new one with a shift added."""
    if bias is None or shift is None:
        return bias
    return nn.Parameter((bias + shift.to(bias.dtype)).detach(), requires_grad=bias.requires_grad)


@contextmanager
def hooked(module: nn.Module, see: Callable[[Tensor, Tensor], Tensor]) -> Iterator[None]:
    """Replace the output of a module with one input by ``see(input, output)``, within the block."""

    def hook(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Tensor:
        return see(args[0] if args else next(iter(kwargs.values())), output)

    with module.register_forward_hook(hook, with_kwargs=True):
        yield


@contextmanager
def substituted(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Run ``forward`` in place of the module's own, within the block."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


def as_rows(x: Tensor) -> Tensor:
    """(..., n) as (R, n)."""
    return x.reshape(-1, x.shape[-1])


def numbers_of(model: nn.Module) -> int:
    """Numbers in all parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def bytes_of(model: nn.Module) -> int:
    """Their bytes."""
    return sum(p.numel() * p.element_size() for p in model.parameters())

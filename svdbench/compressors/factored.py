"""What a compressed network is worth for inference: factors in the layers where they save."""

from dataclasses import dataclass

from torch import nn

from svdbench.lowrank.layers.factor import Factored, factor
from svdbench.lowrank.sizes import bytes_of, numbers_of

from .network import Compression


@dataclass(frozen=True)
class Deployed:
    """A network as one would deploy it, and what it takes.

    Attributes:
        network: with the same outputs as the one it was made from.
        layers: what became of each weight, and why.
        n_params: numbers, biases too.
        macs: multiply-adds of one example, in the products with weights.
        bytes: of the numbers.
    """

    network: nn.Module
    layers: list[Factored]
    n_params: int
    macs: int
    bytes: int


def deployed(network: nn.Module, compression: Compression | None) -> Deployed:
    """A copy of the network with two factors for each weight that is smaller so.

    Args:
        network: whose weights have the ranks that ``compression`` gave them.
        compression: None leaves all weights dense.
    """
    names = compression.layers if compression is not None else {}
    kept = compression.kept if compression is not None else 0
    ranks = {f"{name}.weight": kept for name in names}
    copy, layers = factor(network, ranks, skip_last=False)
    return Deployed(
        network=copy.eval(),
        layers=[_told(layer, kept) for layer in layers],
        n_params=numbers_of(copy),
        macs=sum(layer.numbers[1] for layer in layers),
        bytes=bytes_of(copy),
    )


def _told(layer: Factored, kept: int) -> Factored:
    """The same with the reason in our words, where compression did not touch the weight."""
    smaller = min(layer.weight.rows, layer.weight.columns)
    if smaller > kept > 0:
        return layer
    reason = f"left alone, as its rank is {smaller} at most" if kept else ""
    return Factored(layer.weight, None, reason)

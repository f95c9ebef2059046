"""Networks compressed in place as they are trained, and as deployed."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.lowrank.layers.base import bytes_of, numbers_of
from svdbench.lowrank.layers.factor import Factored, factor
from svdbench.side_by_side.networks import linear_layers

from .compressors import Compressor


class Compression:
    """Brings the weights of a network down to a rank, in place, each time it is called.

    Args:
        rank: of the weights, as asked for; the compressor may keep more.
        calibration: examples (N, d) whose way through the network is looked at, for a
            compressor that needs a layer's inputs.

    Attributes:
        kept: the rank that the layers have.
        layers: those that are compressed, by name: both sides are above ``kept``.
    """

    def __init__(
        self,
        network: nn.Module,
        compressor: Compressor,
        rank: int,
        *,
        calibration: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        if rank < 1:
            raise ValueError(f"rank is {rank}: it must be 1 or more")
        if compressor.needs_inputs and calibration is None:
            raise ValueError(f"{compressor.title} needs the inputs of a layer: give it examples")
        self.network = network
        self.compressor = compressor
        self.calibration = calibration if compressor.needs_inputs else None
        self.kept = compressor.kept(rank)
        self.layers = {
            name: layer
            for name, layer in linear_layers(network).items()
            if min(layer.weight.shape) > self.kept
        }
        self._last: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        devices = {parameter.device for parameter in network.parameters()}
        self._generator = torch.Generator(devices.pop()).manual_seed(seed)

    @torch.no_grad()
    def __call__(self, remember: bool = False) -> None:
        """Compress every layer; their inputs are those of the network as it was before.

        Args:
            remember: what :meth:`rel_error` needs, which takes a copy of the weights.
        """
        inputs = self._inputs()
        for name, layer in self.layers.items():
            W = layer.weight
            left, right = self.compressor.factors(W, self.kept, inputs.get(name), self._generator)
            if remember:
                self._last[name] = W.clone(), left, right
            torch.mm(left, right, out=W)

    @torch.no_grad()
    def rel_error(self) -> float:
        """‖W − W_k‖/‖W‖ (Frobenius) of the last call remembered, all its layers together."""
        lost = whole = 0.0
        for before, left, right in self._last.values():
            lost += float((before.double() - left.double() @ right.double()).square().sum())
            whole += float(before.double().square().sum())
        return (lost / whole) ** 0.5 if whole else 0.0

    def _inputs(self) -> dict[str, Tensor]:
        """What comes into each layer (N, n) from the calibration examples."""
        if self.calibration is None:
            return {}
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            return lambda module, given: found.__setitem__(name, given[0])

        with ExitStack() as hooks:
            for name, layer in self.layers.items():
                hooks.enter_context(layer.register_forward_pre_hook(keep(name)))
            self.network(self.calibration)
        return found


@dataclass(frozen=True)
class Deployed:
    """A network as one would deploy it, and what it takes.

    Attributes:
        network: with the same outputs as the one it was made from.
        layers: for each weight, its rank or why it stays dense.
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
    reason = f"left as it is, because its rank is at most {smaller}" if kept else ""
    return Factored(layer.weight, None, reason)

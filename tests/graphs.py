"""One graph of a layer for any number of rows: compiled, exported and traced."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn


def check_any_number_of_rows(
    layer: nn.Module, features: int, close: Callable[[Tensor, Tensor], bool]
) -> Callable[[Tensor], Tensor]:
    """At most two compilations for ten numbers of rows, all as the layer itself; the compiled one.

    Args:
        layer: takes x (N, features).
        close: whether what a graph returns is what the layer does.
    """
    torch._dynamo.reset()
    counts: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        counts.append(1)
        return graph.forward

    x = torch.randn(3, features)
    rows = torch.export.Dim("rows", min=1, max=2000)
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: rows},)).module()
    compiled = torch.compile(layer, backend=backend, fullgraph=True, dynamic=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(layer, x)
    for number in (2, 3, 5, 8, 13, 40, 90, 300, 900, 1999):
        y = torch.randn(number, features)
        for graph in (exported, traced, compiled):
            assert close(graph(y), layer(y))
    assert len(counts) <= 2
    return compiled

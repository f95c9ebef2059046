"""``loss_curves``: the exact loss of a network as a function of the rank of each layer."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from svdbench.lowrank.checks import check_model
from svdbench.lowrank.drivers.base import working
from svdbench.lowrank.drivers.truncated import truncated_svd
from svdbench.lowrank.ranks.evaluation import batch_loss
from svdbench.lowrank.ranks.examples import (
    Data,
    Inputs,
    Loss,
    Targets,
    batches,
    called,
    check_data,
    check_loss,
    evaluating,
    size,
)
from svdbench.members import refuse_unknown

# Rows of the rest of the network at once: enough for fast products, few enough to stay in
# the cache of a core.
ROWS = 512

# Modules that do the same to every row whatever the others are, in evaluation mode.
_ROW_BY_ROW = (
    *(nn.Linear, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.ELU, nn.Tanh, nn.Sigmoid),
    *(nn.Softplus, nn.Identity, nn.Dropout, nn.LayerNorm, nn.BatchNorm1d),
)

# Outputs (R, B, …) of a layer at R ranks ↦ the loss at each of them.
_Rest = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class Curve:
    """The loss of a network with one weight W replaced by SVD_k(W), by rank k.

    Attributes:
        losses: mean losses at ranks 1, 2, …, min(m, n), float64.
        dense: the loss of the unchanged network.
        singular_values: singular values of W, descending.

    Example:
        >>> curve = Curve(torch.tensor([0.9, 0.5, 0.4]), dense=0.4, singular_values=torch.ones(3))
        >>> curve.rank(max_loss_increase=0.1)
        2
    """

    losses: Tensor
    dense: float
    singular_values: Tensor

    def rank(self, max_loss_increase: float) -> int:
        """The smallest rank from which on the loss increase stays within the limit.

        All ranks are searched, because a third of the steps to a higher rank raise the loss.
        """
        above = (self.losses > self.dense + max_loss_increase).nonzero()
        return min(int(above[-1]) + 2, len(self.losses)) if len(above) else 1


@torch.no_grad()
def loss_curves(
    model: nn.Module, data: Data, loss: Loss, layers: Sequence[str] | None = None
) -> dict[str, Curve]:
    """The exact loss by the rank of each linear layer, with all others dense, without retraining.

    Uses the prefix method: one SVD per layer, X Vᵀ Σ once for each batch of its inputs, and the
    update Z += (X vⱼ σⱼ) uⱼᵀ of its output from rank to rank; then only the rest of the network is
    evaluated. In an ``nn.Sequential`` whose later modules work row by row, the rest is those
    modules, with several ranks in one batch. In any other model a hook replaces the layer's output
    by Z, and the whole model runs at each rank, which is slower. Data is streamed: only one batch
    of activations is held.

    Args:
        model: any module; evaluated in evaluation mode.
        data: (X, y), or batches that can be read again for each layer.
        loss: function of the model's output and y, the mean over a batch.
        layers: full names of weights, such as "0.weight"; by default those of ``linear_weights``.

    Raises:
        ValueError: an unknown layer, one that a forward pass does not call exactly once, or data
            that :func:`svdbench.lowrank.ranks.examples.batches` refuses.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
        >>> X, y = torch.randn(64, 20), torch.randint(4, (64,))
        >>> curves = loss_curves(net, (X, y), nn.functional.cross_entropy)
        >>> {name: len(curve.losses) for name, curve in curves.items()}
        {'0.weight': 20, '2.weight': 4}

    Source: the rank revealer of Keene 2022, Algorithm 3, without its Σrᵢ SVDs.
    """
    check_model(model)
    check_data(data)
    check_loss(loss)
    found = linear_weights(model)
    refuse_unknown("layer", layers or [], tuple(found))
    curves = {}
    with evaluating(model):
        for name in layers or found:
            curves[name] = _curve(model, found[name], data, loss)
    return curves


def linear_weights(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers by the full names of their weights.

    Without classes derived from ``nn.Linear``, which may do something else with their weight,
    and weights that two modules share.
    """
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    return {
        f"{name}.weight" if name else "weight": module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and uses[id(module.weight)] == 1
    }


def _curve(model: nn.Module, layer: nn.Linear, data: Data, loss: Loss) -> Curve:
    W = working(layer.weight)
    U, S, Vh = truncated_svd(W, min(W.shape), driver="svd")
    total = torch.zeros(len(S), dtype=torch.float64)
    dense, count = 0.0, 0
    for x, y in batches(data, model):
        X, output, rest = _around(model, layer, x, y, loss)
        dense += size(x) * float(batch_loss(loss, output, y))
        # What each rank adds, a contiguous column of the batch at a time.
        added = (S.unsqueeze(1) * (Vh @ X.reshape(-1, X.shape[-1]).to(W.dtype).T)).contiguous()
        losses = [
            one
            for Z in _outputs(layer, X.shape[:-1], added, U)
            for one in rest(Z.to(layer.weight.dtype))
        ]
        total += size(x) * torch.stack(losses).double().cpu()
        count += size(x)
    return Curve(total / count, dense / count, S.cpu())


def _outputs(layer: nn.Linear, shape: Sequence[int], added: Tensor, U: Tensor) -> Iterator[Tensor]:
    """The outputs of a layer at ranks 1, 2, …: (R, *shape, m), several ranks at a time."""
    ranks, rows = added.shape
    several = max(1, ROWS // max(rows, 1))
    Z = U.new_zeros(rows, len(U))
    if layer.bias is not None:
        Z += layer.bias
    columns = U.T.contiguous()
    block = U.new_empty(several, rows, len(U))
    for first in range(0, ranks, several):
        before, count = Z, min(several, ranks - first)
        for k in range(count):
            step = added[first + k].unsqueeze(1), columns[first + k]
            before = torch.addcmul(before, *step, out=block[k])
        Z.copy_(before)  # whatever the rest of the network does to the block
        yield block[:count].reshape(count, *shape, len(U))


def _around(
    model: nn.Module, layer: nn.Linear, x: Inputs, y: Targets, loss: Loss
) -> tuple[Tensor, Any, _Rest]:
    """The layer's input, the model's output, and the model after the layer."""
    calls: list[Tensor] = []
    with layer.register_forward_hook(lambda module, given, output: calls.append(given[0])):
        output = called(model, x)
    if len(calls) != 1:
        raise ValueError(
            f"a forward pass calls {layer} {len(calls)} times: a curve needs a layer that is "
            "called once; name the others in `layers`"
        )
    tail = _tail(model, layer)

    def through_tail(Z: Tensor) -> list[Tensor]:
        assert tail is not None
        outputs = tail(Z.flatten(0, 1)).unflatten(0, Z.shape[:2])
        return [loss(each, y) for each in outputs]

    def through_model(Z: Tensor) -> list[Tensor]:
        found = []
        for each in Z:
            with layer.register_forward_hook(lambda module, given, output: each):
                found.append(batch_loss(loss, called(model, x), y))
        return found

    return calls[0], output, through_model if tail is None else through_tail


def _tail(model: nn.Module, layer: nn.Linear) -> nn.Sequential | None:
    """The modules after a layer of an ``nn.Sequential``, if each acts row by row."""
    if type(model) is not nn.Sequential:
        return None
    modules = list(model)
    if layer not in modules:
        return None
    tail = modules[modules.index(layer) + 1 :]
    if not all(type(m) in _ROW_BY_ROW for m in tail):
        return None
    # In place: it is ours, what an activation overwrites.
    return nn.Sequential(*(nn.ReLU(inplace=True) if type(m) is nn.ReLU else m for m in tail))

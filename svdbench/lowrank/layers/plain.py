"""``plain_layers``: factored layers as two of PyTorch's own, for tools that know only those."""

from torch import Tensor, nn

from svdbench.lowrank.checks import check_module
from svdbench.lowrank.layers.embedding import LowRankEmbedding
from svdbench.lowrank.layers.linear import LowRankLinear
from svdbench.lowrank.layers.weights import copied, exchanged


def plain_layers(model: nn.Module) -> nn.Module:
    """A copy whose factored linear layers and embeddings are two of PyTorch's layers each.

    ``nn.Sequential(nn.Linear(n, rank), nn.Linear(rank, m))`` in the place of a
    :class:`LowRankLinear`, ``nn.Sequential(nn.Embedding(m, rank), nn.Linear(rank, n))`` in that of
    a :class:`LowRankEmbedding`. The outputs are the same. Quantisers and other tools that look for
    ``nn.Linear`` find it then; :func:`svdbench.lowrank.load` needs the model as it was.

    Args:
        model: as :func:`svdbench.lowrank.factor` and :func:`svdbench.lowrank.compress` make it;
            other factored layers stay as they are.

    Raises:
        TypeError: ``model`` is no module.

    Example:
        >>> from torch import nn
        >>> from svdbench.lowrank import factor, plain_layers
        >>> small, _ = factor(nn.Linear(16, 8), 2, skip_last=False)
        >>> plain_layers(small)
        Sequential(
          (0): Linear(in_features=16, out_features=2, bias=False)
          (1): Linear(in_features=2, out_features=8, bias=True)
        )
    """
    check_module(model)
    new: dict[nn.Module, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, LowRankLinear):
            second = _linear(module.W1, module.bias)
            new[module] = nn.Sequential(_linear(module.W2), second)
        elif isinstance(module, LowRankEmbedding):
            rows, rank = module.W1.shape
            table = nn.Embedding(rows, rank, module.padding_idx, device="meta")
            table.weight = module.W1
            trained = module.W2.requires_grad
            wide = nn.Parameter(module.W2.detach().mT.contiguous(), requires_grad=trained)
            new[module] = nn.Sequential(table, _linear(wide))
    for old, pair in new.items():
        pair.train(old.training)
    return copied(exchanged(model, new))


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A linear layer that has these very parameters."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    linear.weight = weight
    if bias is not None:
        linear.bias = bias  # type: ignore[assignment]
    return linear

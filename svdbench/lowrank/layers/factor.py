"""``factor`` and ``unfactor``: replace the layers of a module by factors, and back.

``plain_layers`` replaces each by two of PyTorch's own layers, for tools that know only those.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from svdbench.arguments import integer
from svdbench.lowrank.checks import check_module
from svdbench.lowrank.drivers.base import Driver
from svdbench.lowrank.drivers.truncated import truncated_svd
from svdbench.lowrank.layers.base import (
    Factors,
    Folding,
    LowRankLayer,
    Split,
    Weight,
    check_rank,
    two_factors,
)
from svdbench.lowrank.layers.embedding import LowRankEmbedding
from svdbench.lowrank.layers.linear import LowRankLinear
from svdbench.lowrank.layers.weights import (
    FactorableWeight,
    by_any_name,
    copied,
    exchange,
    exchanged,
    factorable_weights,
    last_layer,
    replacements,
    with_factors,
)

LowRank = LowRankLayer


@dataclass(frozen=True)
class Factored:
    """The result of :func:`factor` for one weight.

    Attributes:
        weight: name and size of the weight.
        rank: rank of its two factors; None if it stays dense.
        reason: why it stays dense.

    Example:
        >>> _, report = factor(torch.nn.Linear(20, 30), 5, skip_last=False)
        >>> report[0].weight.name, report[0].rank
        ('weight', 5)
    """

    weight: Weight
    rank: int | None
    reason: str = ""

    @property
    def numbers(self) -> tuple[int, int]:
        """Number of parameters of the weight, dense and now."""
        return self.weight.numbers(None), self.weight.numbers(self.rank)


# The rank of a weight, or None to leave it dense.
RankRule = Callable[[Weight], int | None]


def factor(
    model: nn.Module,
    rank: int | Mapping[str, int | None] | RankRule,
    *,
    skip_last: bool = True,
    only_if_saves: bool = True,
    inplace: bool = False,
    folding: Folding = "spatial",
    svd: Driver = truncated_svd,
    split: Split = "balanced",
) -> tuple[nn.Module, list[Factored]]:
    """Replace the weights of a model by two factors each, by truncated SVDs.

    Takes ``nn.Linear``, ``nn.Conv1d``, ``nn.Conv2d``, ``nn.Embedding``, ``nn.RNN``, ``nn.LSTM``,
    ``nn.GRU`` and ``nn.MultiheadAttention``, wherever they are; subclasses stay dense, because they
    may use their weight in another way. Linear layers and embeddings that share a weight will share
    its factors.

    Args:
        model: any module.
        rank: the rank of every weight that is large enough; or ranks by the names of weights, such
            as ``{"0.weight": 154}``, where the others stay dense; or a function of a
            :class:`Weight` that returns its rank or None.
        skip_last: leave the last layer dense, where truncation costs the most accuracy and saves
            the least.
        only_if_saves: leave a weight dense if its factors would not save parameters.
        inplace: change ``model`` instead of a copy.
        folding: of convolutions, see :class:`LowRankConv2d`.
        svd, split: see :meth:`LowRankLinear.from_linear`.

    Returns:
        The model, and the result for each weight.

    Raises:
        TypeError: ``model`` is no module, or a rank is not a whole number.
        ValueError: a rank out of range, an unknown name or folding, or a weight that has no SVD.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
        >>> model, report = factor(net, 5)
        >>> model[0]
        LowRankLinear(in_features=20, out_features=30, rank=5, bias=True)
    """
    decisions = decide(
        model, rank, skip_last=skip_last, only_if_saves=only_if_saves, folding=folding
    )
    report = [found for _, found in decisions]
    chosen = []
    for site, found in decisions:
        if found.rank is not None:
            try:
                pair = two_factors(site.matrix, found.rank, svd, split)
            except ValueError as error:
                raise ValueError(f"{site.name} can't be factored: {error}") from error
            chosen.append((site, factors_of(site, *pair)))
    if inplace:
        return exchange(model, replacements(chosen)), report
    return copied(with_factors(model, chosen)), report


def decide(
    model: nn.Module,
    rank: int | Mapping[str, int | None] | RankRule,
    *,
    skip_last: bool = True,
    only_if_saves: bool = True,
    folding: Folding = "spatial",
) -> list[tuple[FactorableWeight, Factored]]:
    """What :func:`factor` would make of each weight, without an SVD; arguments as there."""
    check_module(model)
    sites, _ = factorable_weights(model, folding)
    rule = _rule(rank, sites)
    last = last_layer(model, sites) if skip_last else None
    found = []
    for site in sites:
        is_last = any(use.module is last for use in site.uses)
        found.append((site, Factored(site.weight, *_decide(site, rule, is_last, only_if_saves))))
    return found


def factors_of(
    site: FactorableWeight, W1: Tensor, W2: Tensor, shifts: Sequence[Tensor | None] = ()
) -> list[Factors]:
    """The factors of a weight for each of its uses, the same parameters for all of them."""
    first, second = (nn.Parameter(W.detach(), requires_grad=site.trained) for W in (W1, W2))
    return [Factors(first, second, shift) for shift in shifts or [None] * len(site.uses)]


def with_empty_factors(
    model: nn.Module, ranks: Mapping[str, int | None], folding: Folding = "spatial"
) -> nn.Module:
    """A copy of the model with uninitialised factors of these ranks, for loading.

    Its ``state_dict`` has the names and shapes of a model that was factored so. Everything
    else is shared with the model.

    Args:
        ranks: by the full names of weights; None, or no entry, leaves a weight dense.

    Raises:
        ValueError: a rank out of range, a name that no weight has, or an unknown folding.
    """
    check_module(model)
    sites = by_any_name(factorable_weights(model, folding)[0], list(ranks))
    chosen = {}
    for name, site in sites.items():
        rank = ranks[name]
        if rank is None:
            continue
        if site.refusal:
            raise ValueError(f"{name} can't be factored: {site.refusal}")
        m, n, groups = site.weight.rows, site.weight.columns, site.weight.groups
        rank = check_rank(rank, m, n)
        like, lead = site.matrix, () if groups == 1 else (groups,)
        pair = like.new_empty(*lead, m, rank), like.new_empty(*lead, rank, n)
        chosen[site.name] = site, factors_of(site, *pair)
    return with_factors(model, list(chosen.values()))


@torch.no_grad()
def unfactor(model: nn.Module, *, inplace: bool = False) -> nn.Module:
    """Multiply the factors: the equivalent dense model, with weights tied as before.

    Example:
        >>> model, _ = factor(torch.nn.Linear(20, 30), 5, skip_last=False)
        >>> unfactor(model)
        Linear(in_features=20, out_features=30, bias=True)
    """
    check_module(model)
    new: dict[nn.Module, nn.Module] = {}
    shared: dict[tuple[int, ...], nn.Parameter] = {}
    for _, module in _outermost(model):
        dense = module.to_dense().train(module.training)
        if {"W1", "W2"} <= dict(module.named_parameters(recurse=False)).keys():
            pair = id(module.W1), id(module.W2)
            dense.weight = shared.setdefault(pair, dense.get_parameter("weight"))
        new[module] = dense
    if inplace:
        return exchange(model, new)
    return copied(exchanged(model, new))


def low_rank_modules(model: nn.Module) -> list[tuple[str, LowRank]]:
    """The factored layers of a model, by name."""
    return [(name, m) for name, m in model.named_modules() if isinstance(m, LowRank)]


def _outermost(model: nn.Module) -> list[tuple[str, LowRank]]:
    """Modules that are not part of another one."""
    found = low_rank_modules(model)
    inner = {id(m) for _, outer in found for m in outer.modules() if m is not outer}
    return [(name, m) for name, m in found if id(m) not in inner]


def _decide(
    site: FactorableWeight, rule: RankRule, last: bool, only_if_saves: bool
) -> tuple[int | None, str]:
    """The rank of a weight, or None and why."""
    if site.refusal:
        return None, site.refusal
    if last:
        return None, "the last layer"
    rank = rule(site.weight)
    if rank is None:
        return None, "not asked for"
    rank = check_rank(rank, site.weight.rows, site.weight.columns)
    if only_if_saves and rank > site.weight.most:
        return None, f"rank {rank} saves no parameters"
    return rank, ""


def _rule(
    rank: int | Mapping[str, int | None] | RankRule, sites: Sequence[FactorableWeight]
) -> RankRule:
    if isinstance(rank, Mapping):
        named = by_any_name(sites, list(rank))
        by_name = {site.name: rank[name] for name, site in named.items()}
        return lambda weight: by_name.get(weight.name)
    if callable(rank):
        return rank
    same = integer("rank", rank)
    return lambda weight: same if same <= min(weight.rows, weight.columns) else None


def plain_layers(model: nn.Module) -> nn.Module:
    """A copy with two of PyTorch's layers for each factored linear layer or embedding.

    ``nn.Sequential(nn.Linear(n, rank), nn.Linear(rank, m))`` replaces a :class:`LowRankLinear`,
    ``nn.Sequential(nn.Embedding(m, rank), nn.Linear(rank, n))`` a :class:`LowRankEmbedding`. The
    outputs are the same. Use it for quantisers and other tools that look for ``nn.Linear``;
    :func:`svdbench.lowrank.load` needs the original model.

    Args:
        model: a model made by :func:`svdbench.lowrank.factor` or :func:`svdbench.lowrank.compress`;
            other factored layers are kept.

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

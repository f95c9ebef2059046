"""``factor`` and ``unfactor``: the linear, convolutional and recurrent layers of any module."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass

from torch import nn

from svdbench.lowrank.drivers.base import Driver
from svdbench.lowrank.drivers.truncated import truncated_svd
from svdbench.lowrank.layers.conv import Folding, LowRankConv2d, folded_shape
from svdbench.lowrank.layers.linear import LowRankLinear, Split, check_rank
from svdbench.lowrank.layers.recurrent import LowRankRecurrent, weight_shapes

LowRank = LowRankLinear | LowRankConv2d | LowRankRecurrent


@dataclass(frozen=True)
class Weight:
    """A weight that can be factored, as a matrix: its full name in the model, and its size."""

    name: str
    rows: int
    columns: int


@dataclass(frozen=True)
class Factored:
    """What became of a weight.

    Attributes:
        weight: which.
        rank: of its two factors; None if it stays dense.
        reason: why it stays dense.
    """

    weight: Weight
    rank: int | None
    reason: str = ""

    @property
    def numbers(self) -> tuple[int, int]:
        """How many numbers the weight has, dense and as it now is."""
        dense = self.weight.rows * self.weight.columns
        if self.rank is None:
            return dense, dense
        return dense, self.rank * (self.weight.rows + self.weight.columns)


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

    Takes ``nn.Linear``, ``nn.Conv2d``, ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU``, wherever they
    are; classes derived from them stay, as they may do something else with their weight, and
    so do weights that two modules share.

    Args:
        model: any module.
        rank: of every weight that has so many; or of each weight by its name, as
            ``{"0.weight": 154}``, the others staying dense; or a function of a
            :class:`Weight` that returns it, or None.
        skip_last: leave the last layer dense, where truncation costs most accuracy and
            saves least.
        only_if_saves: leave a weight dense whose factors would have no fewer numbers.
        inplace: change ``model`` instead of a copy.
        folding: of convolutions, see :class:`LowRankConv2d`.
        svd, split: see :meth:`LowRankLinear.from_linear`.

    Returns:
        The model, and what became of each weight.

    Raises:
        ValueError: a rank out of range, or a name that no weight has.
    """
    if not inplace:
        model = deepcopy(model)
    layers = [(name, m) for name, m in model.named_modules() if type(m) in _DENSE]
    names = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    rule = _rule(rank, [f"{_dot(name)}{own}" for name, m in layers for own in _names(m)])
    report: list[Factored] = []
    for number, (name, module) in enumerate(layers):
        last = skip_last and number == len(layers) - 1
        ranks: dict[str, int] = {}
        for own, (rows, columns), refusal in _matrices(module, folding):
            weight = Weight(_dot(name) + own, rows, columns)
            shared = names[id(getattr(module, own))] > 1
            found, reason = _decide(weight, rule, refusal, last, shared, only_if_saves)
            report.append(Factored(weight, found, reason))
            if found is not None:
                ranks[own] = found
        if ranks:
            model = _replace(model, name, _factored(module, ranks, svd, split, folding))
    return model, report


def unfactor(model: nn.Module, *, inplace: bool = False) -> nn.Module:
    """Multiply the factors back: the dense model that does the same."""
    if not inplace:
        model = deepcopy(model)
    for name, module in low_rank_modules(model):
        match module:
            case LowRankLinear():
                dense: nn.Module = module.to_linear()
            case LowRankConv2d():
                dense = module.to_conv()
            case LowRankRecurrent():
                dense = module.to_recurrent()
        model = _replace(model, name, dense.train(module.training))
    return model


def low_rank_modules(model: nn.Module) -> list[tuple[str, LowRank]]:
    """The factored layers of a model, by name."""
    return [(name, m) for name, m in model.named_modules() if isinstance(m, LowRank)]


_DENSE = (nn.Linear, nn.Conv2d, nn.RNN, nn.LSTM, nn.GRU)


def _matrices(module: nn.Module, folding: Folding) -> Iterator[tuple[str, tuple[int, int], str]]:
    """The weights of a dense layer: name, size as a matrix, and why it can't be factored."""
    match module:
        case nn.Linear():
            yield "weight", (module.out_features, module.in_features), ""
        case nn.Conv2d():
            refusal, size = "", (module.out_channels, module.weight[0].numel())
            try:
                size = folded_shape(module, folding)
            except ValueError as error:
                if module.groups == 1:
                    raise
                refusal = str(error)
            yield "weight", size, refusal
        case nn.RNNBase():
            refusal = ""
            try:
                weight_shapes(module)
            except ValueError as error:
                refusal = str(error)
            for name in _names(module):
                rows, columns = getattr(module, name).shape
                yield name, (rows, columns), refusal


def _names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters() if name.startswith("weight")]


def _decide(
    weight: Weight, rule: RankRule, refusal: str, last: bool, shared: bool, only_if_saves: bool
) -> tuple[int | None, str]:
    """The rank of a weight, or None and why."""
    if refusal:
        return None, refusal
    if last:
        return None, "the last layer"
    if shared:
        return None, "shared by two modules"
    rank = rule(weight)
    if rank is None:
        return None, "not asked for"
    check_rank(rank, weight.rows, weight.columns)
    if only_if_saves and not LowRankLinear.saves(weight.columns, weight.rows, rank):
        return None, f"rank {rank} has no fewer numbers"
    return rank, ""


def _rule(rank: int | Mapping[str, int | None] | RankRule, names: list[str]) -> RankRule:
    if isinstance(rank, int):
        same = rank
        return lambda weight: same if same <= min(weight.rows, weight.columns) else None
    if isinstance(rank, Mapping):
        by_name = rank
        for name in by_name:
            if name not in names:
                raise ValueError(f"no weight is called {name!r}: there are {', '.join(names)}")
        return lambda weight: by_name.get(weight.name)
    return rank


def _factored(
    module: nn.Module, ranks: dict[str, int], svd: Driver, split: Split, folding: Folding
) -> nn.Module:
    match module:
        case nn.Linear():
            new: nn.Module = LowRankLinear.from_linear(module, ranks["weight"], svd, split=split)
        case nn.Conv2d():
            new = LowRankConv2d.from_conv(
                module, ranks["weight"], svd, folding=folding, split=split
            )
        case nn.RNNBase():
            new = LowRankRecurrent.from_recurrent(module, ranks, svd, split=split)
    # A frozen layer stays frozen.
    new.requires_grad_(any(parameter.requires_grad for parameter in module.parameters()))
    return new.train(module.training)


def _replace(model: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """The model with ``new`` in the place of the module called ``name``; "" is all of it."""
    if not name:
        return new
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, new)
    return model


def _dot(name: str) -> str:
    return f"{name}." if name else ""

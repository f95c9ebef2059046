"""The weights of a model that can be factored, and layers exchanged in their places."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, groupby

from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from svdbench.lowrank.drivers.base import FLOATS
from svdbench.lowrank.layers.base import Factors, Folding, LayerKind, LowRankLayer, Part, Weight
from svdbench.lowrank.layers.kinds import derived_from, kind_of_layer
from svdbench.members import refuse_unknown

# Methods of our layers that return a layer with a plain weight.
CONVERSIONS = ("to_linear", "to_rnn")
# Where a transformer layer keeps its `activation_relu_or_gelu` while it is 0.
BEFORE = "_dense_activation_relu_or_gelu"


def exchanged(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """A copy of the model with other modules in some places; parameters and buffers are shared.

    A :func:`copied` one is independent, and has no copy of what was replaced.
    """
    shared = chain(model.parameters(), model.buffers(), _made_by_hooks(model))
    memo: dict[int, object] = {id(tensor): tensor for tensor in shared}
    memo.update((id(old), module) for old, module in new.items())
    copy = _deepcopy(model, memo)
    _settle(copy)
    return copy


def copied(model: nn.Module, keep: Iterable[Tensor] = ()) -> nn.Module:
    """An independent copy of a model, but for some tensors that it takes over."""
    memo: dict[int, object] = {id(t): t.detach().clone() for t in _made_by_hooks(model)}
    return _deepcopy(model, memo | {id(t): t for t in keep})


def _made_by_hooks(model: nn.Module) -> Iterator[Tensor]:
    """Weights with a graph, as old-style weight_norm and pruning keep them: made at every call."""
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                yield value


def _deepcopy(model: nn.Module, memo: dict[int, object]) -> nn.Module:
    try:
        return deepcopy(model, memo)
    except (RuntimeError, TypeError) as error:
        raise TypeError(
            f"the model can't be copied ({error}): keep out of it what copy.deepcopy "
            "can't copy, such as open files, locks and tensors with a graph"
        ) from error


def exchange(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """The model with some modules replaced in place; its own replacement, if it has one."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # a child may have two names
            if child is not None and child in new:
                setattr(parent, name, new[child])
    model = new.get(model, model)
    _settle(model)
    return model


def _settle(model: nn.Module) -> None:
    """Keeps torch's transformers from reading dense weights where there are factors.

    For inference ``nn.TransformerEncoderLayer`` hands the weights of its layers to one fused
    function, unless ``activation_relu_or_gelu`` is 0, and ``nn.TransformerEncoder`` prepares
    nested tensors for it. Without those its outputs at padded positions are not set to zero,
    as they are not while it is trained.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            before = vars(module).pop(BEFORE, module.activation_relu_or_gelu)
            module.activation_relu_or_gelu = before
            if _has_factors(module):
                module.activation_relu_or_gelu = 0
                setattr(module, BEFORE, before)
        elif isinstance(module, nn.TransformerEncoder) and _has_factors(module):
            module.use_nested_tensor = False


def _has_factors(module: nn.Module) -> bool:
    return any(isinstance(each, LowRankLayer) for each in module.modules())


@dataclass(frozen=True, eq=False)
class Use:
    """A weight in one of the modules that have it."""

    path: str
    module: nn.Module
    kind: LayerKind
    part: Part

    @property
    def name(self) -> str:
        return f"{self.path}.{self.part.own}" if self.path else self.part.own


@dataclass(frozen=True, eq=False)
class FactorableWeight:
    """A weight of a model as a matrix, with all modules that have it.

    Attributes:
        weight: name, by its first use, and size.
        uses: several where modules share it, and so will share the factors.
        folding: of convolutions.
        refusal: why it stays dense; "" if it need not.
    """

    weight: Weight
    uses: tuple[Use, ...]
    folding: Folding
    refusal: str = ""

    @property
    def name(self) -> str:
        return self.weight.name

    @property
    def matrix(self) -> Tensor:
        """Its numbers (rows, columns), or (groups, rows, columns)."""
        first = self.uses[0]
        return first.kind.matrix(first.module, first.part.own, self.folding)

    @property
    def trained(self) -> bool:
        """Whether it has gradients; its factors then have them too."""
        return self.uses[0].part.parameter.requires_grad


def factorable_weights(
    model: nn.Module, folding: Folding = "spatial"
) -> tuple[list[FactorableWeight], dict[str, str]]:
    """All weights of the kinds of layers that this package knows, and other weights with a reason.

    Modules are looked at in the order of ``model.named_modules()``; a module that stands in
    several places, or is called several times, counts once. Linear layers and embeddings that
    share a weight are one.

    Args:
        model: any module.
        folding: of convolutions, see :class:`LowRankConv2d`.

    Returns:
        The weights, some with a ``refusal``; and by name all other parameters that have two
        dimensions or more, with why they stay as they are.

    Raises:
        ValueError: an unknown folding.
    """
    uses: list[Use] = []
    others: dict[str, str] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        if id(module) in seen:
            continue
        kind = kind_of_layer(module)
        if kind is not None:
            seen |= {id(inner) for inner in kind.inner(module)}
            if made := _made_anew(module, kind):
                others |= {_dotted(path, own): why for own, why in made.items()}
            else:
                uses += [Use(path, module, kind, part) for part in kind.parts(module, folding)]
            continue
        if "quantized" in type(module).__module__:
            seen |= {id(inner) for inner in module.modules()}
            others[path or type(module).__name__] = (
                f"a quantised {type(module).__name__}: compress the model first, then quantise it"
            )
            continue
        if parametrize.is_parametrized(module):
            seen |= {id(inner) for inner in module.parametrizations.modules()}
            for name in module.parametrizations:
                others[_dotted(path, name)] = _parametrized(name)
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                others[_dotted(path, name)] = _foreign(module)
    return _tied(model, uses, folding), others


def last_layer(model: nn.Module, sites: Sequence[FactorableWeight]) -> nn.Module | None:
    """The last module that has one of those weights."""
    having = {use.module for site in sites for use in site.uses}
    return next((module for module in reversed(list(model.modules())) if module in having), None)


def with_factors(
    model: nn.Module, chosen: Sequence[tuple[FactorableWeight, Sequence[Factors]]]
) -> nn.Module:
    """A copy of the model with factors in the place of weights; all else is shared with it.

    Args:
        model: that of the weights.
        chosen: weights, and factors for each of its uses.
    """
    return exchanged(model, replacements(chosen))


def replacements(
    chosen: Sequence[tuple[FactorableWeight, Sequence[Factors]]],
) -> dict[nn.Module, nn.Module]:
    """The modules that have these weights, and their replacements."""
    of_module: dict[nn.Module, dict[str, Factors]] = {}
    kinds: dict[nn.Module, tuple[LayerKind, Folding]] = {}
    for site, factors in chosen:
        for use, each in zip(site.uses, factors, strict=True):
            of_module.setdefault(use.module, {})[use.part.own] = each
            kinds[use.module] = use.kind, site.folding
    return {
        module: kinds[module][0].factored(module, factors, kinds[module][1])
        for module, factors in of_module.items()
    }


def by_any_name(
    sites: Sequence[FactorableWeight], names: Sequence[str]
) -> Mapping[str, FactorableWeight]:
    """Weights by the names of any of their uses.

    Raises:
        ValueError: a name that none has, with the nearest.
    """
    every = {use.name: site for site in sites for use in site.uses}
    refuse_unknown("weight", names, tuple(every))
    return {name: every[name] for name in names}


def _tied(model: nn.Module, uses: list[Use], folding: Folding) -> list[FactorableWeight]:
    owners: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(_dotted(path, name))
    order: dict[tuple[int, str], int] = {}
    for use in uses:
        order.setdefault(_key(use), len(order))
    found = []
    for _, group in groupby(sorted(uses, key=lambda use: order[_key(use)]), key=_key):
        own = tuple(group)
        part, names = own[0].part, owners[id(own[0].part.parameter)]
        refusals = [use.part.refusal for use in own if use.part.refusal]
        if len(names) > 1 and not (len(names) == len(own) and all(use.kind.ties for use in own)):
            refusals = [f"shared by {' and '.join(names)}, in a way that factors can't be"]
        if part.parameter.dtype not in FLOATS or not part.parameter.numel():
            refusals = [f"of {part.parameter.dtype}, which has no SVD"]
        weight = Weight(own[0].name, part.rows, part.columns, part.groups)
        found.append(FactorableWeight(weight, own, folding, refusals[0] if refusals else ""))
    return found


def _key(use: Use) -> tuple[int, str]:
    """A key equal for uses of one parameter, but not for its parts in one module."""
    return id(use.part.parameter), "" if use.kind.ties else use.name


def _made_anew(module: nn.Module, kind: LayerKind) -> dict[str, str]:
    """Weights of a layer that a hook or a parametrisation makes at every call, and how to stop it.

    They are attributes of the module, and no parameters.
    """
    found: dict[str, str] = {}
    inner = {id(each): f"{name}." for name, each in module.named_modules() if name}
    for each in (module, *kind.inner(module)):
        prefix = inner.get(id(each), "")
        for hook in each._forward_pre_hooks.values():
            if isinstance(hook, prune.BasePruningMethod):
                remedy = f"pruned: prune.remove(module, {hook._tensor_name!r})"
                found[prefix + str(hook._tensor_name)] = f"{remedy} makes it a parameter again"
            elif isinstance(hook, WeightNorm | SpectralNorm):
                what = "weight_norm" if isinstance(hook, WeightNorm) else "spectral_norm"
                found[prefix + hook.name] = (
                    f"made at every step by {what}: remove_{what}(module, {hook.name!r}) makes it "
                    "a parameter again"
                )
        if parametrize.is_parametrized(each):
            for name in each.parametrizations:  # type: ignore[union-attr]
                found[prefix + name] = _parametrized(name)
    for name in [] if found else ("weight", "in_proj_weight"):
        own = getattr(module, name, None)
        if isinstance(own, Tensor) and name not in module._parameters:
            found[name] = "not a parameter: its module recomputes it"
    return found


def _foreign(module: nn.Module) -> str:
    if isinstance(module, LowRankLayer):
        return "a factor already"
    base = derived_from(module)
    if base is not None:
        return f"of {type(module).__name__}, a {base.__name__} that may use it in another way"
    unsupported = f"a weight of {type(module).__name__}, an unsupported layer"
    for conversion in CONVERSIONS:
        if callable(getattr(module, conversion, None)):
            return f"{unsupported}: replace it by its {conversion}()"
    return unsupported


def _parametrized(name: str) -> str:
    remedy = f"parametrize.remove_parametrizations(module, {name!r})"
    return f"parametrized: recomputed at every step; {remedy} makes it a parameter again"


def _dotted(path: str, own: str) -> str:
    return f"{path}.{own}" if path else own

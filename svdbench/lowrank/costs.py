"""Costs of layers at the shapes of their inputs: counted multiply-adds, measured latency."""

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from svdbench.lowrank.layers.factor import factors_of
from svdbench.lowrank.layers.weights import FactorableWeight, with_factors
from svdbench.lowrank.ranks.allocation import Cost
from svdbench.lowrank.ranks.examples import Inputs, called, evaluating
from svdbench.lowrank.ranks.frontier import Frontier
from svdbench.measure.clock import Clock, clock_of
from svdbench.measure.plan import Contender, TimingPlan, measure

# Parts of the highest rank that saves numbers, at which a layer's latency is measured.
MEASURED = (1 / 16, 1 / 4, 1 / 2, 1)

# Positional and named arguments of each call of a layer.
Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]


def multiply_adds(model: nn.Module, x: Inputs) -> int:
    """Multiply-adds of a forward pass in matrix products and convolutions.

    Args:
        x: a batch of inputs: a tensor, or a tuple or dict of tensors.
    """
    return _counted(lambda: called(model, x), model)


def layer_macs(frontier: Frontier, model: nn.Module, x: Inputs, examples: int) -> dict[str, Cost]:
    """The multiply-adds per example of each weight's part of its layer.

    Counted at two ranks, because they are linear in the rank. A layer with several weights, such as
    attention, is counted with the other weights dense; its dense cost is shared among the weights
    in proportion to their sizes, and factors reduce a weight's share by what they save in the whole
    layer.

    Args:
        model: the model that the frontier was made from.
        x: a batch with this number of ``examples``.
    """

    def cost(layer: "_Layer", ranks: Sequence[int]) -> Cost:
        dense, *found = (
            _counted(run, layer.model) / examples
            for run in [layer.dense, *map(layer.of_size, ranks)]
        )
        return Cost(dense, np.array(ranks), np.array(found))

    return _costs(frontier, model, x, cost, parts=(0, 1))


def layer_latencies(
    frontier: Frontier,
    model: nn.Module,
    x: Inputs,
    *,
    ranks: Mapping[str, int] | None = None,
    budget_s: float = 4.0,
    clock: Clock | None = None,
    on_layer: Callable[[str], None] = lambda name: None,
) -> dict[str, Cost]:
    """The median seconds of each weight's part of its layer for the batch ``x``.

    The dense layer and the factors at four ranks are timed in turn, because machines drift; equal
    layers are measured once. Latencies at other ranks are interpolated linearly. Parts of a layer
    with several weights are as in :func:`layer_macs`.

    Args:
        ranks: measure only these weights, each at its rank, and the whole layer instead of a part.
        budget_s: seconds of measuring, for all layers together.
        clock: the clock; real time by default.
        on_layer: called with each layer before it is measured.
    """
    used = clock or clock_of(_device(model))
    count = len(frontier.layers if ranks is None else ranks)
    plan = TimingPlan(budget_s / max(count, 1), 5, 400, precision=0.01)

    def cost(layer: "_Layer", several: Sequence[int]) -> Cost:
        on_layer(layer.name)
        runs = {"dense": layer.dense} | {f"rank {rank}": layer.at(rank) for rank in several}
        dense, *found = _medians(runs, layer.model, plan, used)
        return Cost(dense, np.array(several), np.array(found))

    return _costs(frontier, model, x, cost, parts=MEASURED, ranks=ranks)


def latencies(
    models: Mapping[str, nn.Module], x: Inputs, *, budget_s: float = 2.0, clock: Clock | None = None
) -> dict[str, float]:
    """The median seconds of a forward pass of the batch ``x``, with all models timed in turn."""
    first = next(iter(models.values()))
    runs = {name: (lambda model=model: called(model, x)) for name, model in models.items()}
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(evaluating(model))
        plan = TimingPlan(budget_s, 5, 1000, precision=0.005)
        return dict(
            zip(models, _medians(runs, first, plan, clock or clock_of(_device(first))), strict=True)
        )


class _Layer:
    """The modules that have a weight, and calls of them."""

    def __init__(
        self, frontier: Frontier, model: nn.Module, name: str, calls: Mapping[str, Calls]
    ) -> None:
        self.frontier, self.model, self.name, self.calls = frontier, model, name, calls

    def dense(self) -> None:
        self._run(self.model)

    def at(self, rank: int) -> Callable[[], None]:
        small = self.frontier.view(self.model, {self.name: rank})
        return lambda: self._run(small)

    def of_size(self, rank: int) -> Callable[[], None]:
        """With factors that are zero and take no memory, for what depends on their size alone."""
        site = self.frontier.sites(self.model)[self.name]
        each, zero = site.weight, site.matrix.new_zeros(())
        lead = () if each.groups == 1 else (each.groups,)
        W1 = zero.expand(*lead, each.rows, rank)
        W2 = zero.expand(*lead, rank, each.columns)
        small = with_factors(self.model, [(site, factors_of(site, W1, W2))])
        return lambda: self._run(small)

    def _run(self, model: nn.Module) -> None:
        for path, calls in self.calls.items():
            module = model.get_submodule(path)
            for args, options in calls:
                module(*args, **options)


def _costs(
    frontier: Frontier,
    model: nn.Module,
    x: Inputs,
    cost: Callable[[_Layer, Sequence[int]], Cost],
    *,
    parts: Sequence[float],
    ranks: Mapping[str, int] | None = None,
) -> dict[str, Cost]:
    """The cost of each weight's layer, once for those alike.

    Args:
        parts: of the highest rank that saves numbers, at which to take it.
        ranks: in their place, and of those weights alone.
    """
    sites = frontier.sites(model)
    paths = {
        name: list(dict.fromkeys(use.path for use in sites[name].uses))
        for name in (frontier.layers if ranks is None else ranks)
    }
    known: dict[Any, Cost] = {}
    found = {}
    with evaluating(model), torch.no_grad():
        kinds, calls = _calls(model, x, {path for several in paths.values() for path in several})
        for name, own in paths.items():
            most = frontier.highest_rank(name)
            several = sorted({max(1, round(part * most)) for part in parts}) if most else []
            if ranks is not None:
                several = [ranks[name]]
            key = (name.rpartition(".")[2], *(kinds[path] for path in own), *several)
            if key not in known:
                inputs = {path: calls[kinds[path]] for path in own}
                known[key] = cost(_Layer(frontier, model, name, inputs), several)
            found[name] = known[key]
    if ranks is not None:
        return found
    return {name: _part(each, _share(sites[name], sites)) for name, each in found.items()}


def _share(site: FactorableWeight, sites: Mapping[str, FactorableWeight]) -> float:
    """The weight's share of the numbers in its modules."""
    modules = {use.module for use in site.uses}
    others = [each for each in sites.values() if any(use.module in modules for use in each.uses)]
    return site.weight.numbers(None) / sum(each.weight.numbers(None) for each in others)


def _part(whole: Cost, share: float) -> Cost:
    rest = (1 - share) * whole.dense
    return Cost(share * whole.dense, whole.ranks, np.maximum(whole.factors - rest, 0.0))


def _calls(
    model: nn.Module, x: Inputs, paths: Collection[str]
) -> tuple[dict[str, str], dict[str, Calls]]:
    """By two forward passes: which modules are alike, by path; and calls of one of each kind.

    Alike are modules of one description that are called with the same shapes.
    """
    kinds = {path: f"{model.get_submodule(path)}" for path in paths}

    def shapes(path: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        kinds[path] += f" {[*map(_shape, args)]} { ({k: _shape(v) for k, v in options.items()}) }"

    _watched(model, x, paths, shapes)
    first = {kind: path for path, kind in kinds.items()}
    calls: dict[str, Calls] = {kind: [] for kind in first}
    keep = lambda path, args, options: calls[kinds[path]].append((args, options))  # noqa: E731
    _watched(model, x, first.values(), keep)
    return kinds, calls


def _watched(model: nn.Module, x: Inputs, paths: Collection[str], see: Callable[..., None]) -> None:
    """A forward pass that calls ``see`` with the path and arguments of each call of a module."""
    with ExitStack() as stack:
        stack.enter_context(_every_module_called())
        for path in paths:

            def hook(module: nn.Module, args: Any, options: Any, path: str = path) -> None:
                see(path, args, options)

            handle = model.get_submodule(path).register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        called(model, x)


def _shape(value: Any) -> Any:
    return (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else type(value)


def _medians(
    runs: Mapping[str, Callable[[], Any]], model: nn.Module, plan: TimingPlan, clock: Clock
) -> list[float]:
    contenders = [Contender(name, run, lambda output: None) for name, run in runs.items()]
    with torch.no_grad(), evaluating(model):
        outcomes = measure(contenders, plan, clock)
    for name, outcome in outcomes.items():
        if outcome.status != "ok":
            raise RuntimeError(f"the latency at {name} can't be measured: {outcome.reason}")
    return [median(outcomes[name].steps_s()) for name in runs]


def _counted(run: Callable[[], Any], model: nn.Module) -> int:
    with evaluating(model), torch.no_grad(), _every_module_called(), plain_products() as counter:
        run()
    total: int = counter.get_total_flops()
    return total // 2


@contextmanager
def plain_products() -> Iterator[FlopCounterMode]:
    """A counter of products, within which all of them are seen.

    Fused recurrent loops and attention are not counted everywhere; plain ones are.
    """
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield stack.enter_context(FlopCounterMode(display=False))


@contextmanager
def _every_module_called() -> Iterator[None]:
    """Switch off torch's fused encoder layers, which read weights and call no modules."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))

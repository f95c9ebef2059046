"""An optimiser's moments, carried over where a network changes.

What an optimiser knows of a weight is carried over to its two factors. With W = W₁W₂ the chain
rule gives their gradients, G₁ = G W₂ᵀ and G₂ = W₁ᵀG. A mean of past gradients m follows the same
rule, as it is linear. Of the mean squares v only a part is known: v − m², the variances around the
means. If the entries of G are taken as uncorrelated, variances add up with squared weights, and
the mean is added to them:

    v₁ = (v − m²)₊ (W₂∘W₂)ᵀ + m₁∘m₁,     v₂ = (W₁∘W₁)ᵀ (v − m²)₊ + m₂∘m₂.

So |m₁| ≤ √v₁, as for moments of anything, and the first step of Adam after the switch is no longer
than its others. Squares alone, v (W₂∘W₂)ᵀ, can be too small by a factor of the number of columns of
W where gradients agree in sign, and that step too long by its root.
"""

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from svdbench.lowrank.layers.factor import low_rank_modules

# What torch's optimisers call their means of gradients, and of squares of them.
MEANS = ("exp_avg", "momentum_buffer", "grad_avg")
SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg")
Product = Callable[[Tensor, Tensor], Tensor]


def carry_moments(optimizer: Optimizer, dense: nn.Module, factored: nn.Module) -> Optimizer:
    """An optimiser of the same kind for the factored model, with this one's state.

    Parameters that both models have keep their moments; those of two factors come from the
    dense weight's, by the chain rule. RMSprop's momentum, a sum of scaled steps, starts anew.

    Args:
        optimizer: of ``dense``, after any number of steps; stays as it is.
        dense: the model before :func:`svdbench.lowrank.factor`.
        factored: what that made of it.
    """
    kind = type(optimizer)
    if kind not in (SGD, Adam, AdamW, RMSprop):
        raise TypeError(
            f"moments of {kind.__name__} can't be carried over: use SGD, Adam, AdamW or RMSprop"
        )
    successors = _successors(dense, factored)
    names = {id(parameter): name for name, parameter in dense.named_parameters()}
    groups, states = [], {}
    for group in optimizer.param_groups:
        ours: list[nn.Parameter] = []
        for parameter in group["params"]:
            name = names.get(id(parameter))
            if name is None:
                raise ValueError("the optimiser has a parameter that the dense model lacks")
            new, product = successors[name]
            ours += new
            state = optimizer.state.get(parameter, {})
            for number, successor in enumerate(new):
                states[successor] = (
                    _copied(state)
                    if product is None
                    else _carried(state, group, product, [p.detach() for p in new], number)
                )
        groups.append({**group, "params": ours})
    options = {key: v for key, v in optimizer.defaults.items() if key in signature(kind).parameters}
    carried = kind(groups, **options)
    carried.state.update((p, state) for p, state in states.items() if state)
    return carried


def _successors(
    dense: nn.Module, factored: nn.Module
) -> dict[str, tuple[list[nn.Parameter], Product | None]]:
    """For each parameter of the dense model by name: itself, or its factors and their product."""
    ours = dict(factored.named_parameters())
    found: dict[str, tuple[list[nn.Parameter], Product | None]] = {}
    for at, module in low_rank_modules(factored):
        prefix = f"{at}." if at else ""
        for name, pair in module.factors.items():
            found[prefix + name] = [ours[prefix + own] for own in pair], module.product
        for name, own in getattr(module, "renamed", {}).items():
            if prefix + own in ours:
                found[prefix + name] = [ours[prefix + own]], None
    for name, parameter in dense.named_parameters():
        if name in found:
            continue
        if name not in ours or ours[name].shape != parameter.shape:
            raise ValueError(f"the factored model has no counterpart of {name!r}")
        found[name] = [ours[name]], None
    return found


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {key: v.clone() if isinstance(v, Tensor) else v for key, v in state.items()}


def _carried(
    state: dict[str, Any],
    group: dict[str, Any],
    product: Product,
    factors: list[Tensor],
    number: int,
) -> dict[str, Any]:
    """The state of one of two factors, from that of the weight they replace."""
    new = _copied({k: v for k, v in state.items() if k not in (*MEANS, *SQUARES)})
    for key in MEANS:
        if state.get(key) is not None:
            new[key] = _pulled_back(product, factors, state[key], number)
    if "momentum_buffer" in new and "square_avg" in state:  # RMSprop's
        new["momentum_buffer"].zero_()
    mean, share = _mean(state, group)
    if mean is None:
        mean = torch.zeros_like(product(*factors))
    own = _pulled_back(product, factors, mean, number)
    squares = [f if i == number else f.square() for i, f in enumerate(factors)]
    for key in SQUARES:
        if key in state:
            spread = (state[key] / share - mean.square()).clamp(min=0)
            new[key] = share * (_pulled_back(product, squares, spread, number) + own.square())
    return new


def _mean(state: dict[str, Any], group: dict[str, Any]) -> tuple[Tensor | None, float]:
    """The mean gradient, where it is known, and by how much the mean squares are too small."""
    if "exp_avg" in state:
        t, (beta1, beta2) = float(state["step"]), group["betas"]
        return state["exp_avg"] / (1 - beta1**t), 1 - beta2**t  # both started from zero
    if state.get("grad_avg") is not None:  # centred RMSprop, which corrects neither
        return state["grad_avg"], 1.0
    return None, 1.0


@torch.enable_grad()
def _pulled_back(product: Product, factors: list[Tensor], value: Tensor, number: int) -> Tensor:
    """The gradient of ⟨value, product(factors)⟩ in one factor: the chain rule."""
    own = [f.detach().requires_grad_(i == number) for i, f in enumerate(factors)]
    (found,) = torch.autograd.grad(product(*own), own[number], value)
    return found


def kept_moments(before: Optimizer, old: nn.Module, new: nn.Module) -> dict[Tensor, Any]:
    """The state of parameters that both networks have, by name and shape, for the new one's."""
    names = dict(old.named_parameters())
    return {
        parameter: _copied(before.state[names[name]])
        for name, parameter in new.named_parameters()
        if name in names and names[name].shape == parameter.shape and before.state[names[name]]
    }


def add_product_decay(network: nn.Module, decay: float) -> None:
    """Add the gradients of λ/2·‖W₁W₂‖² to those of all factors (Frobenius decay).

    They are λ W₁(W₂W₂ᵀ) and λ (W₁ᵀW₁)W₂. Weight decay of each factor is something else: it
    pulls the factors' norms together, and the product towards a lower nuclear norm.

    Source: Khodak, Tenenholtz, Mackey, Fusi, "Initialization and regularization of factorized
    neural layers", ICLR 2021, §3.
    """
    for _, module in low_rank_modules(network):
        for pair in module.factors.values():
            W1, W2 = (module.get_parameter(own) for own in pair)
            with torch.no_grad():
                if W1.ndim == W2.ndim == 2:
                    found = W1 @ (W2 @ W2.mT), (W1.mT @ W1) @ W2
                else:
                    both = [W1.detach(), W2.detach()]
                    whole = module.product(*both)
                    first, second = (_pulled_back(module.product, both, whole, i) for i in (0, 1))
                    found = first, second
                for factor, gradient in zip((W1, W2), found, strict=True):
                    if factor.grad is not None:
                        factor.grad.add_(gradient, alpha=decay)


def factors_in(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that are one of two factors of a weight."""
    return [
        module.get_parameter(own)
        for _, module in low_rank_modules(network)
        for pair in module.factors.values()
        for own in pair
    ]

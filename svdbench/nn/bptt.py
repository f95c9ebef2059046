"""The two loops of a recurrence over time, and the backward one in plain operations.

Autograd would record every step, multiply out dW at each of them and add up T results.
Here the backward pass is one loop for δ_t, the gradient at W h_{t−1} + u_t,

    δ_t = φ'(h_t) ∘ (g_t + Wᵀ δ_{t+1}),

and then dW = Σ_t δ_t h_{t−1}ᵀ is one product over all steps and sequences. The states are
kept and room is taken for all δ_t, which are also the gradients at the inputs.
"""

import torch
from torch import Tensor

from svdbench.nn.activations import Activation


def forward(
    inputs: Tensor, W: Tensor, h0: Tensor | None, bias: Tensor | None, phi: Activation, keep: bool
) -> tuple[Tensor, Tensor]:
    """All states (T, B, n), T > 0, and what φ keeps for ``backward``, if asked to."""
    T, B, n = inputs.shape
    states = torch.empty_like(inputs, memory_format=torch.contiguous_format)
    kept = inputs.new_empty(T if keep else 1, B, phi.kept_size(n))
    spare = torch.empty_like(states[0])
    before, Wt = h0, W.t()
    moments = kept.unbind(0) if keep else kept.unbind(0) * T
    for u, state, moment in zip(inputs.unbind(0), states.unbind(0), moments, strict=True):
        if before is None:
            state.copy_(u)
        else:
            torch.addmm(u, before, Wt, out=state)
        phi.step_(state, bias, moment, spare)
        before = state
    return states, kept


def backward(G: Tensor, W: Tensor, states: Tensor, kept: Tensor, phi: Activation) -> Tensor:
    """All δ_t (T, B, n), given the gradients G at the states."""
    deltas = torch.empty_like(states)
    spare = torch.empty_like(states[0])
    after: Tensor | None = None
    steps = zip(G.unbind(0), deltas.unbind(0), states.unbind(0), kept.unbind(0), strict=True)
    for g, delta, state, moment in reversed(list(steps)):
        if after is None:
            delta.copy_(g)
        else:
            torch.addmm(g, after, W, out=delta)
        phi.grad_(delta, state, moment, spare)
        after = delta
    return deltas


def plain_backward(
    G: Tensor, W: Tensor, bias: Tensor | None, states: Tensor, phi: Activation
) -> Tensor:
    """The same in operations that autograd differentiates itself."""
    deltas: list[Tensor] = []
    for g, state in zip(reversed(G.unbind(0)), reversed(states.unbind(0)), strict=True):
        if deltas:
            g = torch.addmm(g, deltas[-1], W)
        deltas.append(phi.plain_grad(g, state, bias))
    return torch.stack(deltas[::-1])


def weight_grad(deltas: Tensor, states: Tensor, h0: Tensor | None) -> Tensor:
    """dW = Σ_t δ_t h_{t−1}ᵀ, (n, n)."""
    dW = deltas[1:].flatten(0, 1).t() @ states[:-1].flatten(0, 1)
    return dW if h0 is None else torch.addmm(dW, deltas[0].t(), h0)

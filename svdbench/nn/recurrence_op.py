"""``recurrence`` as operators of PyTorch, so that torch.compile need not unroll its loop."""

from typing import Any

import torch
from torch import Tensor

from svdbench.nn import bptt
from svdbench.nn.activations import ACTIVATIONS


def recurrence_op(
    inputs: Tensor, W: Tensor, h0: Tensor | None, bias: Tensor | None, activation: str
) -> Tensor:
    given = (inputs, W, h0, bias)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given)
    return _forward(inputs, W, h0, bias, activation, keep)[0]


@torch.library.custom_op("svdbench::recurrence", mutates_args=())
def _forward(
    inputs: Tensor,
    W: Tensor,
    h0: Tensor | None,
    bias: Tensor | None,
    activation: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    return bptt.forward(inputs, W, h0, bias, ACTIVATIONS[activation], keep)


@_forward.register_fake
def _(
    inputs: Tensor,
    W: Tensor,
    h0: Tensor | None,
    bias: Tensor | None,
    activation: str,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    T, B, n = inputs.shape
    kept = inputs.new_empty(T if keep else 1, B, ACTIVATIONS[activation].kept_size(n))
    return inputs.new_empty(inputs.shape), kept


@torch.library.custom_op("svdbench::recurrence_backward", mutates_args=())
def _backward(G: Tensor, W: Tensor, states: Tensor, kept: Tensor, activation: str) -> Tensor:
    return bptt.backward(G, W, states, kept, ACTIVATIONS[activation])


@_backward.register_fake
def _(G: Tensor, W: Tensor, states: Tensor, kept: Tensor, activation: str) -> Tensor:
    return torch.empty_like(states)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, W, h0, bias, ctx.activation, _ = inputs
    ctx.save_for_backward(W, h0, bias, *output)


def _gradients(ctx: Any, G: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    W, h0, bias, states, kept = ctx.saved_tensors
    deltas = _backward(G, W, states, kept, ctx.activation)
    dh0 = None if h0 is None else deltas[0] @ W
    dbias = None if bias is None else ACTIVATIONS[ctx.activation].bias_grad(deltas, states)
    return deltas, bptt.weight_grad(deltas, states, h0), dh0, dbias, None, None


_forward.register_autograd(_gradients, setup_context=_setup)

"""``LowRankAttention``: multi-head attention with each projection as two factors."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from svdbench.lowrank.layers.base import Factors, Folding, LowRankLayer
from svdbench.lowrank.layers.linear import LowRankLinear

PROJECTIONS = ("q", "k", "v", "out")

# A projection's name and its input ↦ its output.
Project = Callable[[str, Tensor], Tensor]


class LowRankAttention(LowRankLayer):
    """Multi-head attention of low rank, used like the ``nn.MultiheadAttention`` it is made from.

    Has four projections of its own, ``q_proj``, ``k_proj``, ``v_proj`` and ``out_proj``, each a
    :class:`LowRankLinear` or, where it stays dense, an ``nn.Linear``. It has no ``in_proj_bias``,
    so ``nn.TransformerEncoder`` and its layers call it instead of their fast path for inference.

    Args:
        attention: the dense module.
        factors: factors of some of its weights, by the names ``q_proj_weight``, ``k_proj_weight``,
            ``v_proj_weight`` and ``out_proj.weight``; the other weights are shared with it.

    Example:
        >>> model, _ = factor(torch.nn.MultiheadAttention(16, 4), 2, skip_last=False)
        >>> x = torch.randn(5, 3, 16)
        >>> model(x, x, x)[0].shape
        torch.Size([5, 3, 16])
    """

    factors: Mapping[str, tuple[str, str]] = {}  # those of its projections are their own
    in_proj_weight = in_proj_bias = bias_k = bias_v = None
    _qkv_same_embed_dim = False

    def __init__(self, attention: nn.MultiheadAttention, factors: Mapping[str, Factors]) -> None:
        super().__init__()
        self.embed_dim, self.num_heads = attention.embed_dim, attention.num_heads
        self.kdim, self.vdim = attention.kdim, attention.vdim
        self.dropout, self.batch_first = attention.dropout, attention.batch_first
        for name in PROJECTIONS:
            linear = _projection(attention, name)
            pair = factors.get(weight_name(name))
            new = linear if pair is None else LowRankLinear.sharing(linear, {"weight": pair})
            self.add_module(f"{name}_proj", new)
        self.factors = {
            weight_name(name): (f"{name}_proj.W1", f"{name}_proj.W2")
            for name in PROJECTIONS
            if weight_name(name) in factors
        }
        self.train(attention.training)

    @classmethod
    def sharing(
        cls,
        dense: nn.MultiheadAttention,
        factors: Mapping[str, Factors],
        folding: Folding = "spatial",
    ) -> Self:
        return cls(dense, factors)

    @torch.no_grad()
    def to_attention(self) -> nn.MultiheadAttention:
        """An equivalent ``nn.MultiheadAttention`` with weights of its own."""
        layers: list[Any] = [self.get_submodule(f"{name}_proj") for name in PROJECTIONS]
        weights = [layer.weight for layer in layers]
        biases = [layer.bias for layer in layers]
        dense = nn.MultiheadAttention(
            self.embed_dim,
            self.num_heads,
            self.dropout,
            bias=biases[0] is not None,
            kdim=self.kdim,
            vdim=self.vdim,
            batch_first=self.batch_first,
            device=weights[0].device,
            dtype=weights[0].dtype,
        )
        if dense.in_proj_weight is not None:
            dense.in_proj_weight.copy_(torch.cat(weights[:3]))
        else:
            for name, weight in zip(PROJECTIONS[:3], weights[:3], strict=True):
                dense.get_parameter(weight_name(name)).copy_(weight)
        dense.out_proj.weight.copy_(weights[3])
        if biases[0] is not None:
            dense.in_proj_bias.copy_(torch.cat(biases[:3]))
            dense.out_proj.bias.copy_(biases[3])
        return dense

    to_dense = to_attention

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """Arguments and results as in ``nn.MultiheadAttention``."""
        return multi_head(self, self._project, *args, **kwargs)

    def _project(self, name: str, x: Tensor) -> Tensor:
        y: Tensor = self.get_submodule(f"{name}_proj")(x)
        return y


def multi_head(
    attention: Any,
    project: Project,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Multi-head attention with any projections; arguments and results are torch's.

    Source: Vaswani et al., "Attention is all you need", NeurIPS 2017, §3.2.2.
    """
    if is_causal and attn_mask is None:
        raise ValueError("is_causal is a hint about attn_mask: give the mask too")
    heads, batched = attention.num_heads, query.ndim == 3
    if not batched:
        query, key, value = (x.unsqueeze(0) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    elif not attention.batch_first:
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
    q, k, v = (
        project(name, x).unflatten(-1, (heads, -1)).transpose(1, 2)
        for name, x in zip(PROJECTIONS[:3], (query, key, value), strict=True)
    )
    # A fused kernel knows a causal mask by itself, if there is no other and no weights come out.
    hint = is_causal and key_padding_mask is None and not need_weights
    mask = None if hint else _mask(attn_mask, key_padding_mask, heads, q.dtype)
    dropout = attention.dropout if attention.training else 0.0
    weights = None
    if need_weights:
        scores = q * q.shape[-1] ** -0.5 @ k.mT
        weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
        y = weights @ v
    else:
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=hint)
    y = project("out", y.transpose(1, 2).flatten(2))
    if weights is not None and average_attn_weights:
        weights = weights.mean(1)
    if not batched:
        return y.squeeze(0), None if weights is None else weights.squeeze(0)
    return y if attention.batch_first else y.transpose(0, 1), weights


def _mask(
    attn_mask: Tensor | None, key_padding_mask: Tensor | None, heads: int, dtype: torch.dtype
) -> Tensor | None:
    """The mask to add to the scores (B, heads, L, S), of a shape that broadcasts to theirs."""
    total = None
    if attn_mask is not None:
        total = _additive(attn_mask, dtype)
        total = total.unflatten(0, (-1, heads)) if total.ndim == 3 else total
    if key_padding_mask is not None:
        padding = _additive(key_padding_mask, dtype)[:, None, None]
        total = padding if total is None else total + padding
    return total


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
    return mask.to(dtype)


def weight_name(name: str) -> str:
    return "out_proj.weight" if name == "out" else f"{name}_proj_weight"


def parameter_of(attention: nn.MultiheadAttention, name: str) -> nn.Parameter:
    """The parameter that has a projection's weight, perhaps with others."""
    packed = attention.in_proj_weight is not None and name != "out"
    return attention.get_parameter("in_proj_weight" if packed else weight_name(name))


def weight_of(attention: nn.MultiheadAttention, name: str) -> Tensor:
    whole = parameter_of(attention, name)
    packed = whole is attention.in_proj_weight
    return whole.chunk(3)[PROJECTIONS.index(name)] if packed else whole


def bias_of(attention: nn.MultiheadAttention, name: str) -> Tensor | None:
    if attention.in_proj_bias is None:
        return None
    if name == "out":
        return attention.out_proj.bias
    return attention.in_proj_bias.chunk(3)[PROJECTIONS.index(name)]


def _projection(attention: nn.MultiheadAttention, name: str) -> nn.Linear:
    """A projection as a layer of its own, whose numbers are those of ``attention``."""
    weight, bias = weight_of(attention, name), bias_of(attention, name)
    rows, columns = weight.shape
    linear = nn.Linear(columns, rows, bias is not None, device="meta")
    trained = parameter_of(attention, name).requires_grad
    if not isinstance(weight, nn.Parameter):
        weight = nn.Parameter(weight.detach(), requires_grad=trained)
    linear.weight = weight
    if bias is not None and not isinstance(bias, nn.Parameter):
        bias = nn.Parameter(bias.detach(), requires_grad=bias.requires_grad)
    linear.register_parameter("bias", bias)
    return linear

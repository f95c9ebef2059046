"""The kinds of layers that can be factored: their matrices, and their low-rank layers.

A new kind is a class here, in ``_KINDS``.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from svdbench.lowrank.layers.attention import (
    PROJECTIONS,
    LowRankAttention,
    bias_of,
    multi_head,
    parameter_of,
    weight_name,
    weight_of,
)
from svdbench.lowrank.layers.base import (
    Factors,
    Folding,
    LayerKind,
    LowRankLayer,
    Observer,
    Part,
    as_rows,
    hooked,
    substituted,
)
from svdbench.lowrank.layers.conv import (
    LowRankConv1d,
    LowRankConv2d,
    column_gradients,
    folded,
    folded_shape,
    is_split,
    output_gradients,
    patches,
)
from svdbench.lowrank.layers.embedding import LowRankEmbedding
from svdbench.lowrank.layers.linear import LowRankLinear, LowRankTransposedLinear
from svdbench.lowrank.layers.recurrent import WITH_PROJECTIONS, LowRankRecurrent
from svdbench.lowrank.layers.recurrent_steps import unrolled


class LinearKind(LayerKind):
    """``nn.Linear``: y = Wx + b, for each row x of the input."""

    layers: ClassVar = {nn.Linear: LowRankLinear}
    ties = True

    def parts(self, module: nn.Linear, folding: Folding) -> list[Part]:
        rows, columns = module.weight.shape
        return [
            Part(
                "weight",
                module.get_parameter("weight"),
                rows,
                columns,
                bias=module.bias is not None,
            )
        ]

    def watch(
        self, module: nn.Linear, observers: Mapping[str, Observer], folding: Folding
    ) -> AbstractContextManager[None]:
        observer = observers["weight"]

        def see(x: Tensor, y: Tensor) -> Tensor:
            observer.columns(as_rows(x.detach()))
            return observer.output(y)

        return hooked(module, see)


class TransposedLinearKind(LinearKind):
    """``Conv1D`` of transformers: y = xW + b, with the weight stored as (inputs, outputs).

    Its class is known by name, as transformers is not imported here.
    """

    layers: ClassVar = {}
    ties = False
    name = "transformers.pytorch_utils.Conv1D"

    def parts(self, module: Any, folding: Folding) -> list[Part]:
        columns, rows = module.weight.shape
        return [Part("weight", module.get_parameter("weight"), rows, columns, bias=True)]

    def matrix(self, module: Any, own: str, folding: Folding) -> Tensor:
        return super().matrix(module, own, folding).mT

    def factored(
        self, module: nn.Module, factors: Mapping[str, Factors], folding: Folding
    ) -> LowRankLayer:
        return LowRankTransposedLinear.sharing(module, factors, folding)


class EmbeddingKind(LayerKind):
    """``nn.Embedding``: rows of a table are picked.

    The matrix is the table, and its curvature E[e eᵀ] ⊗ E[g gᵀ], where e picks a row: the
    frequencies of the tokens as a diagonal, on the side of the rows.
    """

    layers: ClassVar = {nn.Embedding: LowRankEmbedding}
    ties = lookup = True

    def parts(self, module: nn.Embedding, folding: Folding) -> list[Part]:
        refusal = ""
        for option in ("max_norm", "scale_grad_by_freq", "sparse"):
            if getattr(module, option):
                refusal = f"{option} acts on the rows of a dense table"
        rows, columns = module.weight.shape
        return [Part("weight", module.get_parameter("weight"), rows, columns, refusal=refusal)]

    def watch(
        self, module: nn.Embedding, observers: Mapping[str, Observer], folding: Folding
    ) -> AbstractContextManager[None]:
        observer = observers["weight"]

        def see(tokens: Tensor, y: Tensor) -> Tensor:
            observer.picks(tokens)
            return observer.output(y, side="columns")

        return hooked(module, see)


class ConvKind(LayerKind):
    """``nn.Conv1d`` and ``nn.Conv2d``: a matrix for each group.

    In the channel folding, W is applied to patches of the padded input, a row for each position
    of the output. In the spatial folding it is applied to columns (in, h) of them, a row for
    each that a kernel reaches, and the output is the sum of w of the results, shifted. The
    gradient at those results is exact; E[g gᵀ] is (out·w, out·w). What remains an
    approximation is that neighbouring columns, which overlap in no row but are alike, are
    taken as independent, as are the positions of any layer that is used at several.
    """

    layers: ClassVar = {nn.Conv1d: LowRankConv1d, nn.Conv2d: LowRankConv2d}

    def parts(self, module: Any, folding: Folding) -> list[Part]:
        rows, columns = folded_shape(module, folding)
        part = Part(
            "weight",
            module.get_parameter("weight"),
            rows,
            columns,
            module.groups,
            module.bias is not None,
        )
        if module.groups > 1 and rows * columns <= rows + columns:
            reason = f"{module.groups} groups of {rows}×{columns}: rank 1 saves no parameters"
            return [part._replace(refusal=reason)]
        return [part]

    def matrix(self, module: Any, own: str, folding: Folding) -> Tensor:
        return folded(module, folding)

    def watch(
        self, module: Any, observers: Mapping[str, Observer], folding: Folding
    ) -> AbstractContextManager[None]:
        observer, by_columns = observers["weight"], is_split(module, folding)

        def arrange(g: Tensor) -> Iterator[Tensor]:
            return column_gradients(module, g) if by_columns else output_gradients(module, g)

        def see(x: Tensor, y: Tensor) -> Tensor:
            for rows in patches(module, x.detach(), columns_only=by_columns):
                observer.columns(rows)
            return observer.output(y, arrange)

        return hooked(module, see)


class AttentionKind(LayerKind):
    """``nn.MultiheadAttention``: projections q, k, v, packed in one weight or not, and out."""

    layers: ClassVar = {nn.MultiheadAttention: LowRankAttention}

    def parts(self, module: nn.MultiheadAttention, folding: Folding) -> list[Part]:
        refusal = ""
        if module.bias_k is not None or module.add_zero_attn:
            refusal = "attention with add_bias_kv or add_zero_attn"
        found = []
        for name in PROJECTIONS:
            rows, columns = weight_of(module, name).shape
            bias = module.in_proj_bias is not None
            part = Part(weight_name(name), parameter_of(module, name), rows, columns, bias=bias)
            found.append(part._replace(refusal=refusal))
        return found

    def matrix(self, module: nn.MultiheadAttention, own: str, folding: Folding) -> Tensor:
        (name,) = (name for name in PROJECTIONS if weight_name(name) == own)
        return weight_of(module, name).detach()

    def watch(
        self, module: nn.MultiheadAttention, observers: Mapping[str, Observer], folding: Folding
    ) -> AbstractContextManager[None]:
        def project(name: str, x: Tensor) -> Tensor:
            y = F.linear(x, weight_of(module, name), bias_of(module, name))
            observer = observers.get(weight_name(name))
            if observer is None:
                return y
            observer.columns(as_rows(x.detach()))
            return observer.output(y)

        return substituted(module, partial(multi_head, module, project))

    def inner(self, module: nn.MultiheadAttention) -> tuple[nn.Module, ...]:
        return (module.out_proj,)


class RecurrentKind(LayerKind):
    """``nn.RNN``, ``nn.LSTM``, ``nn.GRU``: products with the input and the state before a step.

    Rows come in for each step of each sequence, and the gradient is that at the gates before
    their activations, where the result of the product is added.
    """

    layers = dict.fromkeys((nn.RNN, nn.LSTM, nn.GRU), LowRankRecurrent)

    def parts(self, module: nn.RNNBase, folding: Folding) -> list[Part]:
        refusal = WITH_PROJECTIONS if module.proj_size else ""
        return [
            Part(name, p, p.shape[0], p.shape[1], bias=module.bias, refusal=refusal)
            for name, p in module.named_parameters()
            if name.startswith("weight_")
        ]

    def watch(
        self, module: nn.RNNBase, observers: Mapping[str, Observer], folding: Folding
    ) -> AbstractContextManager[None]:
        return substituted(module, partial(unrolled, module, observers))


_KINDS: dict[type[nn.Module], LayerKind] = {
    dense: kind
    for kind in (LinearKind(), EmbeddingKind(), ConvKind(), AttentionKind(), RecurrentKind())
    for dense in kind.layers
}


_BY_NAME: dict[str, LayerKind] = {TransposedLinearKind.name: TransposedLinearKind()}


def kind_of_layer(module: nn.Module) -> LayerKind | None:
    """The kind of a module that can be factored; None for others and for derived classes."""
    own = type(module)
    return _KINDS.get(own) or _BY_NAME.get(f"{own.__module__}.{own.__qualname__}")


def derived_from(module: nn.Module) -> type[nn.Module] | None:
    """The class of layers that a module's own class derives from, if it is one of those known."""
    return next((cls for cls in type(module).__mro__[1:] if cls in _KINDS), None)

"""``HouseholderAdapter``: fine-tune a frozen layer by an orthogonal factor on its inputs."""

from typing import Any

import torch
from torch import Tensor, nn

from svdbench.arguments import integer
from svdbench.kernels import apply_reflectors
from svdbench.kernels.core import WORK_DTYPE
from svdbench.nn.deferred import assign, holds_data
from svdbench.nn.rows import number_of_rows


class HouseholderAdapter(nn.Module):
    """y = W(Hx) + b around a frozen layer, with H a product of n Householder reflectors.

    H = H(v₁)⋯H(vₙ) is orthogonal, so that WH has the singular values of W. H is initialised to the
    identity, up to rounding, and only the reflectors are trained: n·d parameters for vectors x of
    length d. In a convolution, x is a patch of the input, as long as a row of the weight reshaped
    to (out_channels, in_channels/groups·kh·kw); groups share H.

    A forward pass of a linear layer either applies H to the rows x or builds WH and
    multiplies, whichever takes fewer operations. In training the former is cheaper unless
    there are many more rows than out_features. A graph of ``torch.compile``,
    ``torch.export`` or ``torch.jit.trace`` works for any number of rows and applies H to them,
    which adds at most 3n/out_features to the work of the layer. For a convolution WH is built each
    time. For inference, :meth:`merge` builds it once. The layer itself isn't called where WH is
    built: register hooks on the adapter.

    The layer is kept as ``layer`` and frozen (``requires_grad_(False)``). ``state_dict`` holds only
    the reflectors, and ``load_state_dict`` requires only them. It also loads the weight and bias if
    they are present, under their names in ``layer`` or without an adapter (``fc.layer.weight`` or
    ``fc.weight``), and requires them if the layer is on the meta device.

    Args:
        layer: a ``torch.nn.Linear``, or a ``torch.nn.Conv2d`` of any stride, padding, dilation
            and groups. A subclass of ``Linear`` with a forward pass of its own, such as a
            quantised one, is called as it is, on rows Hx.
        n_reflectors: n, even and at least 2: an odd number of reflectors has determinant −1 and
            can't be initialised to the identity. More than d add nothing.
        dtype: of the reflectors; by default that of the weight, or PyTorch's default if that is
            quantised. Use float32 for a layer in half precision, so that small updates aren't
            rounded away; y still has the dtype of the layer.

    Shapes:
        ``reflectors`` is (n, d). x is (..., in_features) and y (..., out_features), or x and y
        are those of the convolution.

    Raises:
        TypeError: another kind of layer, or a number of reflectors that is not whole.
        ValueError: an odd number of reflectors, or one below 2; a weight without a shape, or
            one that is parametrised.

    Example:
        >>> layer = torch.nn.Linear(64, 32)
        >>> adapter, x = HouseholderAdapter(layer, 4), torch.randn(5, 64)
        >>> bool(torch.dist(adapter(x), layer(x)) < 1e-4)
        True
        >>> list(adapter.state_dict())
        ['reflectors']

    Source: Yuan, Liu, Xu, "Bridging the Gap between Low-rank and Orthogonal Adaptation via
    Householder Reflection Adaptation" (HRA), NeurIPS 2024.
    """

    original_weight: nn.Parameter | None

    def __init__(
        self,
        layer: nn.Linear | nn.Conv2d,
        n_reflectors: int = 8,
        *,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_layer(layer)
        n = integer("n_reflectors", n_reflectors, 2)
        if n % 2:
            raise ValueError(
                f"n_reflectors is {n}: give an even number, such as {n + 1}, as an odd number of "
                f"reflectors can't start at the identity"
            )
        weight = layer.weight
        # The weight of a quantised linear layer may be packed.
        d = layer.in_features if isinstance(layer, nn.Linear) else weight.shape[1:].numel()
        if dtype is None:
            dtype = weight.dtype if weight.dtype in WORK_DTYPE else torch.get_default_dtype()
        self.layer = layer.requires_grad_(False)
        self.reflectors = nn.Parameter(torch.empty(n, d, device=weight.device, dtype=dtype))
        # The weight of the layer, as long as it is merged.
        self.register_parameter("original_weight", None)
        self._merge_after_loading = False
        self.register_state_dict_post_hook(_drop_layer)
        self.register_load_state_dict_pre_hook(_complete_with_layer)
        self.register_load_state_dict_post_hook(_finish_loading)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw new reflectors in equal pairs, so that H = I; not merged.

        Their directions are uniform; their lengths, on which the size of a training step depends,
        are those of PEFT's HRA layer.
        """
        self.unmerge()
        if holds_data(self.reflectors):
            n, d = self.reflectors.shape
            work = WORK_DTYPE[self.reflectors.dtype]
            half = torch.randn(n // 2, d, dtype=work, device=self.reflectors.device)
            assign(self.reflectors, half.mul_((2 / (3 * n)) ** 0.5).repeat_interleave(2, 0))

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        if self.merged:
            y: Tensor = layer(x)
        elif isinstance(layer, nn.Conv2d):
            y = layer._conv_forward(x, self.weight, layer.bias)
        elif self._build_is_cheaper(x):
            y = nn.functional.linear(x, self.weight, layer.bias)
        else:
            y = layer(self._reflect(x))
        return y

    @property
    def weight(self) -> Tensor:
        """WH, in the shape and dtype of W; built on each access unless merged.

        Raises:
            TypeError: the weight is quantised.
        """
        if self.merged:
            return self.layer.weight
        W = self.layer.weight
        if W.dtype not in WORK_DTYPE:
            raise TypeError(f"the weight is {W.dtype}: WH needs floating-point numbers")
        work = torch.promote_types(W.dtype, self.reflectors.dtype)
        # (Hᴴ Wᴴ)ᴴ; the columns of Wᴴ are the rows of W as they lie.
        columns = W.flatten(1).to(work).mH
        product = apply_reflectors(self.reflectors.to(work), columns, transpose=True).mH
        return product.reshape(W.shape).to(W.dtype)

    @property
    def bias(self) -> Tensor | None:
        """b, the bias of the layer."""
        return self.layer.bias

    @property
    def merged(self) -> bool:
        """Whether ``layer.weight`` is WH."""
        return self.original_weight is not None

    @torch.no_grad()
    def merge(self) -> None:
        """Replace ``layer.weight`` by WH, for inference, or to use ``layer`` without the adapter.

        W is kept unchanged, and so is a weight tied to it. While merged, the reflectors have no
        gradient. Does nothing if already merged.

        Raises:
            TypeError: the weight is quantised.
        """
        if self.merged:
            return
        with torch.inference_mode(False):
            product = self.weight
        W = self.layer.get_parameter("weight")
        self.layer.weight = nn.Parameter(product, requires_grad=W.requires_grad)
        self.original_weight = W

    def unmerge(self) -> None:
        """Restore the original weight, bit for bit. Does nothing if not merged."""
        W = self.original_weight
        if W is not None:
            self.layer.weight = W
            self.original_weight = None

    def _reflect(self, x: Tensor) -> Tensor:
        """Hx, in the dtype of x."""
        d = self.reflectors.shape[1]
        if x.shape[-1] != d:
            raise ValueError(f"x must be (..., {d}), not {tuple(x.shape)}")
        work = torch.promote_types(x.dtype, self.reflectors.dtype)
        # No copy, as the reflectors take and return the columns of rows.t() as they lie.
        rows = x.reshape(-1, d).to(work)
        rows = apply_reflectors(self.reflectors.to(work), rows.t()).t()
        return rows.reshape(x.shape).to(x.dtype)

    def _build_is_cheaper(self, x: Tensor) -> bool:
        """Whether a linear layer takes fewer operations with WH than with Hx."""
        rows, out = number_of_rows(x), self.layer.weight.shape[0]
        if rows is None or type(self.layer).forward is not nn.Linear.forward:
            return False
        n, learns = len(self.reflectors), torch.is_grad_enabled() and self.reflectors.requires_grad
        # In multiples of 2d: a reflector and a column take 2 forward and 4 backward. The gradient
        # at WH is a product beside that at x; the gradient at Hx is one that gives both.
        each = n * (6 if learns else 2)
        more = rows * out if learns and x.requires_grad else 0
        return each * out + more < each * rows

    def extra_repr(self) -> str:
        return f"n_reflectors={len(self.reflectors)}, merged={self.merged}"


def _check_layer(layer: Any) -> None:
    own = isinstance(layer, nn.Conv2d) and type(layer).forward is not nn.Conv2d.forward
    if own or not isinstance(layer, nn.Linear | nn.Conv2d):
        raise TypeError(
            f"the layer is a {type(layer).__name__}: give a torch.nn.Linear or a torch.nn.Conv2d"
        )
    weight = dict(layer.named_parameters(recurse=False)).get("weight")
    if weight is None:
        raise ValueError("the weight is parametrised: remove its parametrisations first")
    if nn.parameter.is_lazy(weight):
        raise ValueError("the weight has no shape yet: run the lazy module once before")


def _drop_layer(
    adapter: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Any
) -> None:
    """Leave the reflectors alone in a state."""
    for key in list(state_dict):
        if key.startswith(f"{prefix}layer.") or key == f"{prefix}original_weight":
            del state_dict[key]


def _complete_with_layer(
    adapter: nn.Module, state_dict: dict[str, Any], prefix: str, *rest: Any
) -> None:
    """Take the weight and bias under either of their names, or those that the layer has."""
    assert isinstance(adapter, HouseholderAdapter)
    adapter._merge_after_loading = adapter.merged
    adapter.unmerge()
    for key, value in adapter.layer.state_dict(keep_vars=True).items():
        name = f"{prefix}layer.{key}"
        if prefix + key in state_dict:
            state_dict.setdefault(name, state_dict.pop(prefix + key))
        elif not isinstance(value, Tensor) or holds_data(value):
            state_dict.setdefault(name, value)


def _finish_loading(adapter: nn.Module, incompatible_keys: Any) -> None:
    """Merge again what was merged before it was loaded."""
    assert isinstance(adapter, HouseholderAdapter)
    if adapter._merge_after_loading:
        adapter.merge()
    adapter._merge_after_loading = False

"""``orthogonal``: keep a weight orthonormal, as a product of Householder reflectors."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from svdbench.arguments import as_integer
from svdbench.nn.rows import expected_rows, map_rows
from svdbench.nn.stiefel import Stiefel, StiefelList, check_dtype

PLAIN = (Tensor, nn.Parameter)  # not those of torch.fx, of a mode or of a distributed model


def linear_forward(self: nn.Linear, input: Tensor) -> Tensor:
    """x Wᵀ + b by applying the reflectors to x, where that takes fewer operations than to build W.

    W is built if it is cached, or if it depends on more than ``Stiefel``: another parametrisation,
    a hook, a tensor subclass.
    """
    entries: Any = self._modules.get("parametrizations")
    entry = entries._modules.get("weight") if entries is not None else None
    if entry is None or not _reflects(entry, input, self.in_features):
        return nn.functional.linear(input, self.weight, self.bias)
    stiefel, V = entry._modules["0"], entry.original
    return map_rows(partial(stiefel.apply_to_rows, V), input, V.dtype, self.bias)


def _reflects(entry: Any, x: Tensor, in_features: int) -> bool:
    # Asked at each call, so by the shortest way.
    stiefel, V = entry._modules["0"], entry.original
    if type(stiefel) is not Stiefel or len(entry._modules) != 1 or parametrize._cache_enabled:
        return False
    if type(x) not in PLAIN or type(V) not in PLAIN or V.is_complex():
        return False
    for module in (entry, stiefel):
        if module._forward_hooks or module._forward_pre_hooks:
            return False
    if x.ndim == 0 or (not torch.jit.is_tracing() and x.shape[-1] != in_features):
        return False  # torch.nn.functional.linear says what is wrong
    if x.dtype is not V.dtype and (x.is_meta or not torch.is_autocast_enabled(x.device.type)):
        return False
    # A reflector of length d takes 4d operations on a column: on N of them, or on the r of W,
    # which then takes 2dr for each row.
    n, r, N = stiefel.n_reflectors, stiefel.r, expected_rows(x)
    return 4 * n * N <= 4 * n * r + 2 * r * N


def orthogonal(
    module: nn.Module,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
    n_reflectors: int | None = None,
) -> nn.Module:
    """Keep ``module.<name>`` orthonormal, as a product of Householder reflectors.

    A drop-in for ``torch.nn.utils.parametrizations.orthogonal``, registered with
    ``torch.nn.utils.parametrize`` and computed by ``svdbench.kernels.apply_reflectors``.
    The weight W (m × n) has orthonormal columns if m ≥ n (WᴴW = I) and orthonormal
    rows otherwise (WWᴴ = I), to a small multiple of max(m, n)·eps, however long it is
    trained. A tensor of more dimensions, such as the weight of a convolution, is a batch of
    matrices (..., m, n) in its last two.

    A real ``torch.nn.Linear`` applies the reflectors to its input instead of building W, for up to
    2·min(m, n) rows, or any number if n_reflectors ≤ min(m, n)/2. That costs less; the result
    differs by rounding.

    The initial weight is the old one if that is orthonormal, with either determinant. Otherwise it
    is the Q factor of the old weight with diag(R) ≥ 0: Q of ``torch.linalg.qr`` with its columns
    negated where R has a negative diagonal. If the rank of the old weight is below min(m, n), the
    columns of Q that R doesn't determine are orthonormal but arbitrary, and a weight of zeros
    becomes the identity, or its first columns or rows, up to signs. A weight with infinite or NaN
    entries becomes NaN, until a checkpoint is loaded or a weight assigned. Assigning
    ``module.<name> = W`` does the same, but raises for infinite or NaN entries. If W is real and
    square, training keeps its determinant.

    The parameter, ``module.parametrizations.<name>.original``, holds the reflectors
    along the longer dimension: as rows, (..., n_reflectors, n), of a wide or square
    weight, and as columns, (..., m, n_reflectors), of a tall one. Their lengths don't affect the
    weight, so weight decay on them only changes the size of the steps.

    The parametrisation has one buffer, ``signs`` (±1), chosen with the reflectors whenever a weight
    is assigned. It is constant once the parametrisation is registered on a second module, by you,
    ``transfer_parametrizations_and_params`` or ``torch.ao``'s ``prepare_qat``; that changes no
    weight. ``deepcopy``, ``state_dict``, ``load_state_dict(assign=True)``, ``parametrize.cached``
    and stacked states under ``torch.func.vmap`` work. On the meta device nothing is decomposed:
    after ``to_empty``, load a checkpoint or assign a weight. A checkpoint of torch's own
    ``orthogonal`` is converted if it determines the weight, and refused otherwise.

    Args:
        module: the module that owns the tensor.
        name: the tensor to keep orthonormal, a parameter or buffer of float32, float64,
            bfloat16, float16, complex64 or complex128, of two dimensions or more.
        orthogonal_map: None or "householder", which mean the same.
        use_trivialization: accepted for compatibility with torch; has no effect.
        n_reflectors: number of reflectors, 1 … max(m, n). By default min(m, n), which can represent
            every weight of that shape; the parameter then has the weight's shape. Fewer, for real
            weights only, cost less and represent only weights with rank(W − I) ≤ n_reflectors, up
            to the sign of the last column (row, if wide); if the old weight is not one of them, the
            initial weight is the product of the first reflectors of its QR factorisation. More than
            min(m, n) add nothing.

    Returns:
        The module, changed in place.

    Raises:
        ValueError: no such tensor, or one that is not a matrix or batch of matrices, is empty, of
            integers or not initialised; an unknown map; ``n_reflectors`` out of range. Also when a
            weight is assigned that has another shape, is not finite, or can't be represented by
            ``n_reflectors`` reflectors.

    Example:
        >>> layer = orthogonal(torch.nn.Linear(20, 40))
        >>> bool(torch.dist(layer.weight.mT @ layer.weight, torch.eye(20)) < 1e-4)
        True

    Sources: Householder, "Unitary triangularization of a nonsymmetric matrix", J. ACM
    1958; Mathiasen et al., "What if Neural Networks had SVDs?" (FastH), NeurIPS 2020;
    Mhammedi et al., "Efficient orthogonal parametrisation of recurrent neural networks
    using Householder reflections", ICML 2017.
    """
    if orthogonal_map not in (None, "householder"):
        raise ValueError(
            f'orthogonal_map has to be one of None, "householder", not {orthogonal_map!r}: leave '
            f"it out, or take torch.nn.utils.parametrizations.orthogonal for torch's own maps"
        )
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(
            f"{type(module).__name__} has no parameter or buffer named {name!r}: "
            f"give the name of one of its tensors"
        )
    if nn.parameter.is_lazy(weight):
        raise ValueError(f"{name!r} has no shape yet: run the lazy module once before")
    if weight.ndim < 2 or weight.numel() == 0:
        raise ValueError(
            f"Expected a matrix or batch of matrices, got {name!r} of shape "
            f"{tuple(weight.shape)}: choose a tensor of two dimensions or more, none of them 0"
        )
    check_dtype(weight)
    d, r = max(weight.shape[-2:]), min(weight.shape[-2:])
    n = r if n_reflectors is None else as_integer(n_reflectors)
    if n is None or not 1 <= n <= d:
        raise ValueError(
            f"n_reflectors must be a whole number from 1 to {d} for matrices of "
            f"{weight.shape[-2]}×{weight.shape[-1]}, not {n_reflectors!r}; None takes {r}, "
            "enough for all"
        )
    if n < r and weight.is_complex():
        raise ValueError(
            f"a complex {weight.shape[-2]}×{weight.shape[-1]} weight needs {r} reflectors or more, "
            f"not {n}: take n_reflectors=None"
        )
    if n != r and parametrize.is_parametrized(module, name):
        raise ValueError(
            f"{name!r} is parametrised already, and {n} reflectors don't have its shape: "
            f"take n_reflectors=None, or remove_parametrizations first"
        )
    if n != r:
        weight.grad = None  # the parameter keeps its identity but not its shape
    # unsafe only says: no check of what is registered, and none is needed.
    stiefel, type_before = Stiefel(weight, n), parametrize.type_before_parametrizations(module)
    parametrize.register_parametrization(module, name, stiefel, unsafe=True)
    stiefel.registered = True
    entry = module.parametrizations[name]  # type: ignore[index]
    if type(entry) is parametrize.ParametrizationList:
        entry.__class__ = StiefelList
    if type_before is nn.Linear and name == "weight":
        type(module).forward = linear_forward  # of the class that torch made for this module
    return module

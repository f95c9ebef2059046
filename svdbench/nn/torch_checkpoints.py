"""The weight that a checkpoint of ``torch.nn.utils.parametrizations.orthogonal`` stands for."""

import torch
from torch import Tensor


def weight_of_torch(original: Tensor, base: Tensor | None) -> Tensor | None:
    """The orthonormal weight of torch's ``original`` and ``base``, or None if it isn't determined.

    Torch's three maps (matrix_exp, cayley, householder) store the same tensors, but not which
    of them it was. Two cases leave no doubt:

    * with ``base``, a parameter that was not trained: all maps give the first columns of base;
    * without it, a diagonal of ±1 above which something is left of R: the Householder map, as
      an orthonormal weight with 1 in its diagonal, of the other maps, has only zeros there.

    Args:
        original: the parameter, of the shape of the weight (..., m, n).
        base: the buffer of the dynamic trivialisation, (..., d, d) for d = max(m, n), or None.

    Returns:
        The weight, of the shape of original.
    """
    wide = original.shape[-2] < original.shape[-1]
    X = original.mT if wide else original
    diagonal = X.diagonal(dim1=-2, dim2=-1)
    weight = None
    if base is not None:
        if bool((X.tril(-1) == 0).all()) and bool((diagonal == -1).all()):
            weight = base[..., : X.shape[-1]]
    elif not X.is_complex():
        left = X.triu(1).ne(0).flatten(-2).any(-1)
        if bool((diagonal.abs() == 1).all()) and bool(left.all()):
            A = X.tril(-1)
            tau = 2 / (1 + A.square().sum(-2))
            weight = torch.linalg.householder_product(A, tau) * diagonal.unsqueeze(-2)
    return weight.mT if weight is not None and wide else weight

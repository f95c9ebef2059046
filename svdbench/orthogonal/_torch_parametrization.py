"""torch's own orthogonal parametrisation, called on a leaf."""

from typing import Any, ClassVar, cast

from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from ._skip import half_precision, not_square
from .base import Method, Problem


class TorchParametrization(Method):
    """torch.nn.utils.parametrizations.orthogonal of a weight V (d, d), then Q X.

    ``use_trivialization=False``: with it, Q is multiplied by a fixed base as well.
    All three maps read the lower triangle of V only.
    """

    builds = "Q"
    map: ClassVar[str]
    source = "torch.nn.utils.parametrizations.orthogonal"

    def skip(self, problem: Problem) -> str | None:
        what = f"torch's {self.map} map"
        fault = "returns NaN" if self.map == "matrix_exp" else "has no kernel"
        return not_square(problem, what) or half_precision(problem, what, fault)

    def prepare(self, V: Tensor, X: Tensor) -> None:
        layer = nn.Module()
        layer.weight = nn.Parameter(V.detach().clone())
        orthogonal(layer, "weight", self.map, use_trivialization=False)
        self.parametrization: nn.Module = cast(Any, layer).parametrizations.weight[0]

    def apply(self, V: Tensor, X: Tensor) -> Tensor:
        Q: Tensor = self.parametrization(V)
        return Q @ X

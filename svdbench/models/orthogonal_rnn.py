"""The orthogonal network by Householder reflectors."""

from typing import Unpack

from torch import Tensor, nn

from svdbench.nn.spectral_weight import OrthogonalWeight

from ._recurrent import Recurrent, Shared, distance_to_isometry


class OrthogonalRNN(Recurrent):
    """oRNN: W = H_n(u_n) ⋯ H_{n−m+1}(u_{n−m+1}), u_k ∈ Rᵏ: mn − m(m − 1)/2 parameters.

    Args:
        m: reflectors, 1 to n; None is n, which reaches every orthogonal matrix.
        init: W at first, or as near as m reflectors get: "henaff", "cayley", "identity" or
            "random".

    Raises:
        ValueError: m out of range, or what :class:`Recurrent` refuses.
    """

    kind = "orthogonal"
    source = (
        "Mhammedi et al., Efficient Orthogonal Parametrisation of Recurrent Neural Networks "
        "Using Householder Reflections, ICML 2017"
    )

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        activation: str = "modrelu",
        m: int | None = None,
        init: str = "henaff",
        **shared: Unpack[Shared],
    ) -> None:
        shared.setdefault("readout_bias", False)
        super().__init__(input_size, hidden_size, output_size, activation=activation, **shared)
        self.weight = OrthogonalWeight(hidden_size, hidden_size if m is None else m, init=init)

    def recurrent_weight(self) -> Tensor:
        W: Tensor = self.weight()
        return W

    def promise(self) -> float:
        return distance_to_isometry(self.recurrent_weight())

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        return list(self.weight.parameters())

    def weight_parameters(self) -> int:
        m = self.weight.m
        return m * self.hidden_size - m * (m - 1) // 2

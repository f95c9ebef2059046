"""``SpectralRNN`` and ``OrthogonalRNN``, used like ``torch.nn.RNN``."""

from typing import Any

from svdbench.nn.recurrent_stack import RecurrentStack
from svdbench.nn.spectral_weight import OrthogonalWeight, SpectralWeight


class SpectralRNN(RecurrentStack):
    """h_t = φ(W h_{t−1} + M x_t + b) with the singular values of W in [σ* − r, σ* + r].

    W = U diag(σ) Vᵀ is made of m₁ + m₂ Householder reflectors, see
    :class:`svdbench.nn.SpectralWeight`. Used like ``torch.nn.RNN``, with the same shapes and with
    packed sequences, but with one bias instead of two, and with ``modrelu``, ``complex_modrelu``
    and ``identity`` as further nonlinearities. A layer in one direction has
    (input_size + m₁ + m₂ + 2)n − (m₁² + m₂² − m₁ − m₂)/2 parameters, and n more for modReLU.
    ``to_rnn()`` returns an equivalent ``torch.nn.RNN``, for ONNX and ``torch.jit``.

    A program made by ``torch.export`` calls operators of svdbench: import ``svdbench.nn`` before
    loading it. ``torch.jit.trace`` fixes the number of steps. The output is saved for the backward
    pass, as by cuDNN: clone it before an in-place operation.

    Args:
        input_size: size of x_t.
        hidden_size: n, the size of h_t.
        num_layers: number of layers; each takes the states of the one before as its input.
        nonlinearity: φ, "tanh", "relu", "identity", "modrelu" or "complex_modrelu", see
            :func:`svdbench.nn.recurrence`.
        bias: whether to add b.
        batch_first: whether x is (B, T, input_size), and the output likewise.
        dropout: dropout probability between layers, in training.
        bidirectional: add layers that run from the end of a sequence to its start.
        m1, m2: number of reflectors of U and V, 1 … n; by default n, which can represent every
            matrix with such singular values.
        sigma: σ*, the centre of the interval.
        radius: r ≥ 0, half its width.
        init: initial W, σ* times "henaff", "cayley", "identity" or "random".

    Raises:
        ValueError: sizes, numbers of reflectors or r out of range; an unknown name.

    Example:
        >>> rnn = SpectralRNN(10, 20, num_layers=2)
        >>> output, h_n = rnn(torch.randn(5, 3, 10))
        >>> output.shape, h_n.shape
        (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]))

    Source: Zhang, Lei, Dhillon, "Stabilizing Gradients for Deep Neural Networks via
    Efficient SVD Parameterization", ICML 2018.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        m1: int | None = None,
        m2: int | None = None,
        sigma: float = 1.0,
        radius: float = 0.01,
        init: str = "henaff",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        left = hidden_size if m1 is None else m1
        right = hidden_size if m2 is None else m2
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            nonlinearity,
            bias,
            batch_first,
            dropout,
            bidirectional,
            lambda: SpectralWeight(
                hidden_size,
                left,
                right,
                sigma=sigma,
                radius=radius,
                init=init,
                device=device,
                dtype=dtype,
            ),
        )


class OrthogonalRNN(RecurrentStack):
    """h_t = φ(W h_{t−1} + M x_t + b) with W orthogonal, a product of m Householder reflectors.

    Like :class:`SpectralRNN` with all singular values 1 and one product instead of two, see
    :class:`svdbench.nn.OrthogonalWeight`.

    Args:
        n_reflectors: m, 1 … n; by default n, which can represent every orthogonal matrix.
        others: as in :class:`SpectralRNN`.

    Raises:
        ValueError: sizes or n_reflectors out of range; an unknown name.

    Example:
        >>> rnn = OrthogonalRNN(10, 20, nonlinearity="modrelu", n_reflectors=8)
        >>> output, h_n = rnn(torch.randn(5, 3, 10))
        >>> output.shape, h_n.shape
        (torch.Size([5, 3, 20]), torch.Size([1, 3, 20]))

    Source: Mhammedi et al., "Efficient orthogonal parametrisation of recurrent neural
    networks using Householder reflections", ICML 2017.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        n_reflectors: int | None = None,
        init: str = "henaff",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        m = hidden_size if n_reflectors is None else n_reflectors
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            nonlinearity,
            bias,
            batch_first,
            dropout,
            bidirectional,
            lambda: OrthogonalWeight(hidden_size, m, init=init, device=device, dtype=dtype),
        )

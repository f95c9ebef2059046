"""The interface of a recurrent network.

Adding one is a file here with a subclass of :class:`SequenceModel` and a YAML of the same
name in ``conf/model``; nothing else is edited.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Required, TypedDict

from torch import Tensor, nn

from svdbench.arguments import check_whole


class ModelSizes(TypedDict, total=False):
    """Sizes and options of all models; see :class:`SequenceModel`."""

    input_size: Required[int]
    hidden_size: Required[int]
    output_size: Required[int]
    readout_bias: bool


class Readout(nn.Linear):
    """A linear map of states (..., s): of their last numbers, as many as it takes."""

    def forward(self, states: Tensor) -> Tensor:
        return super().forward(states[..., states.shape[-1] - self.in_features :])


class SequenceModel(nn.Module, ABC):
    """A recurrent network with a linear readout of its states.

    Define ``states`` and ``unrolled``, which return all states (T, B, s) for inputs x (T, B,
    input_size), and ``expected_parameters``. T is the number of steps, B the batch size, s the
    state size: ``hidden_size``, or twice that if the hidden units are complex. One training step
    is::

        loss.backward(); optimizer.step()      # on the groups that are the optimizer's
        if model.own_step: model.step_own(lr)  # with the orthogonal group's learning rate
        model.after_step()

    Args:
        input_size, hidden_size, output_size: widths; a complex hidden unit counts once.
        readout_bias: whether the readout has a bias.
        state_size: s, if it is not ``numbers_per_unit`` times ``hidden_size``.
        read: number of entries of a state that are read out, the last ones; all by default.

    Class attributes:
        kind: the family, in a word.
        source: where the model comes from.
        numbers_per_unit: entries of the state per hidden unit; 2 if the units are complex, else 1.
        own_step: whether ``step_own`` moves the "orthogonal" group along its manifold; the
            optimizer must then not update it.

    Raises:
        ValueError: a size that is not a positive whole number.

    Example:
        .. code-block:: python

            import torch
            from svdbench.extend import SequenceModel

            class MyRNN(SequenceModel):
                kind, source = "free", "Elman 1990"

                def __init__(self, input_size, output_size, hidden_size=128):
                    super().__init__(input_size, hidden_size, output_size)
                    self.cell = torch.nn.RNNCell(input_size, hidden_size)

                def unrolled(self, x, h0=None):
                    h, states = h0, []
                    for step in x.unbind():
                        h = self.cell(step, h)
                        states.append(h)
                    return states

                def states(self, x, h0=None):
                    return torch.stack(self.unrolled(x, h0))

                def expected_parameters(self):
                    n = self.hidden_size
                    return n * (n + self.input_size + 2) + self.readout_parameters()
    """

    kind: ClassVar[str]
    source: ClassVar[str]
    numbers_per_unit: int = 1
    own_step: ClassVar[bool] = False

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        readout_bias: bool = True,
        state_size: int | None = None,
        read: int | None = None,
    ) -> None:
        super().__init__()
        check_whole(1, input_size=input_size, hidden_size=hidden_size, output_size=output_size)
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, output_size
        self.state_size = state_size or self.numbers_per_unit * hidden_size
        self.readout = Readout(read or self.state_size, output_size, bias=readout_bias)
        self._reset_readout()

    def reset_parameters(self) -> None:
        """Initialise all parameters again, with new random numbers.

        Every submodule is reset by its own method. A subclass with further parameters resets those.
        """
        for child in self.children():
            if (reset := getattr(child, "reset_parameters", None)) is not None:
                reset()
        self._reset_readout()

    def _reset_readout(self) -> None:
        nn.init.xavier_uniform_(self.readout.weight)
        if self.readout.bias is not None:
            nn.init.zeros_(self.readout.bias)

    @abstractmethod
    def states(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        """All states (T, B, s) for x (T, B, input_size) and the initial state h0 (B, s)."""

    @abstractmethod
    def unrolled(self, x: Tensor, h0: Tensor | None = None) -> list[Tensor]:
        """The same states one by one, (B, s) each, every one computed from the previous one.

        Slower than ``states``, but after ``retain_grad()`` on one of them the backward pass stores
        ∂L/∂h_t in it, through all later states.
        """

    def forward(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        """The readout of every state, (T, B, output_size)."""
        outputs: Tensor = self.readout(self.states(x, h0))
        return outputs

    def last(self, x: Tensor, h0: Tensor | None = None) -> Tensor:
        """The readout of the last state only, (B, output_size)."""
        output: Tensor = self.readout(self.states(x, h0)[-1])
        return output

    def orthogonal_parameters(self) -> list[nn.Parameter]:
        """Parameters of a recurrent weight that stays on, or near, a manifold."""
        return []

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """All trained parameters: "orthogonal" and "other"; see :meth:`orthogonal_parameters`."""
        orthogonal = self.orthogonal_parameters()
        known = {id(parameter) for parameter in orthogonal}
        trained = [p for p in self.parameters() if p.requires_grad and id(p) not in known]
        return {"orthogonal": orthogonal, "other": trained}

    def recurrent_weight(self) -> Tensor | None:
        """W (s, s) as built from the parameters, differentiable; None if there isn't one."""
        return None

    def sigma(self) -> Tensor | None:
        """The singular values of W, in their order; None if they are not parameters."""
        return None

    def promise(self) -> float | None:
        """The error of W relative to what its parametrisation guarantees; None without a guarantee.

        ‖WᴴW − I‖_F if W should be orthogonal or unitary; if its singular values should lie in an
        interval, the largest distance from it. Computed in float64.
        """
        return None

    def step_own(self, lr: float) -> None:
        """Move the "orthogonal" group along its manifold by its gradients, if ``own_step``."""
        return None

    def after_step(self) -> None:
        """Called after each step of training."""
        return None

    @property
    def n_params(self) -> int:
        """Free parameters: the number of trained values minus the equations among them."""
        numbers = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return numbers - self.constraints()

    def constraints(self) -> int:
        """Equations among the parameters, such as n² in a unitary matrix (n, n)."""
        return 0

    @abstractmethod
    def expected_parameters(self) -> int:
        """The expected ``n_params``, by the formula for this kind of model."""

    def readout_parameters(self) -> int:
        """The number of parameters of the readout."""
        biases = 0 if self.readout.bias is None else self.output_size
        return self.output_size * self.readout.in_features + biases
